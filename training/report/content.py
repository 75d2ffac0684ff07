"""What a report may hold. Plain records; nothing here knows of HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from training.data.findings import Finding
from training.scoring.evaluation import Evaluation
from training.scoring.scores import Scores


@dataclass(frozen=True)
class Fact:
    """One line of a table."""

    name: str
    value: str


@dataclass(frozen=True)
class FileEntry:
    """Where something lies, and what it is."""

    path: str
    about: str


@dataclass(frozen=True)
class Picture:
    """One picture with what is written under it."""

    caption: str
    pixels: NDArray[np.uint8]
    """RGB (H, W, 3)."""


@dataclass(frozen=True)
class Exhibit:
    """One image of the dataset, seen in several ways side by side."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class ClassShare:
    """One class of the dataset."""

    name: str
    color: str
    """`#rrggbb`."""
    share: float | None = None
    """Of the labelled pixels, in [0, 1]."""
    images: int | None = None
    """Labelled images it occurs in."""


@dataclass(frozen=True)
class DatasetSection:
    """What the model was made of."""

    classes: tuple[ClassShare, ...]
    facts: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    """What is wrong with the data, errors first, each with its fix."""
    findings_not_shown: int = 0


@dataclass(frozen=True)
class TrainingSection:
    """How the model was made."""

    facts: tuple[Fact, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    """(step, loss)."""
    settings: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationSection:
    """How good the model is, on images whose truth is known."""

    evaluation: Evaluation
    scores: Scores
    colors: tuple[str, ...]
    """`#rrggbb` of each class."""
    clear: tuple[bool, ...]
    """Which classes are left clear in pictures."""
    about: str = ""
    """Which images these are, and what they may be trusted for; a sentence or two."""
    notes: tuple[str, ...] = ()
    """What to keep in mind when reading the scores."""


@dataclass(frozen=True)
class Report:
    """A page."""

    title: str
    verdict: str
    """One sentence for somebody who reads no further."""
    facts: tuple[Fact, ...] = ()
    """The handful of numbers one is asked for."""
    evaluation: EvaluationSection | None = None
    gallery: tuple[Exhibit, ...] = ()
    """Labelled images with what the model made of them, worst first."""
    predictions: tuple[Exhibit, ...] = ()
    """Images nobody has labelled."""
    dataset: DatasetSection | None = None
    training: TrainingSection | None = None
    files: tuple[FileEntry, ...] = field(default=())
    made: datetime | None = None
