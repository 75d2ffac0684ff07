"""The tasks to label next, in order, and the scores that make Label Studio serve them so.

Label Studio's uncertainty sampling serves the lowest score. Places count up from 0 for each version and their
scores lie below those of all other tasks, so that filling up a batch changes no score that was told already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from model_zoo.card import Frozen
from model_zoo.files import write_atomically
from srpu_backend.mirror import TaskMirror
from srpu_backend.prediction_files import Prediction
from srpu_backend.projects import Project

COLD_START = "cold-start"
"""The model version of the order there is before any model."""
BATCH_BELOW = 0.001
"""All scores of a batch are below this, those of other tasks are not."""
_HALF_WAY = 100  # the place whose score is half of BATCH_BELOW


class Place(Frozen):
    """One task of the batch."""

    task: int
    place: int
    """Counts up from 0 as tasks are chosen; lower is labelled first."""
    arm: str
    """`strategy`, or `control` for one left to chance."""
    why: str
    """For the annotator."""
    cluster: int = -1


class LabelBatch(Frozen):
    """`batch.json`."""

    version: str
    """What it was chosen with: the champion, or `cold-start`."""
    strategy: str
    size: int
    """Asked for."""
    pool: str
    """Fingerprint of the tasks and labels it was last chosen or filled up from."""
    places: tuple[Place, ...] = ()
    """In order; those labelled since are among them until it is filled up."""
    next_place: int = 0
    notes: tuple[str, ...] = ()
    """Why there are fewer than asked for."""


def read_batch(project: Project) -> LabelBatch | None:
    """The project's batch; None when there is none, or it cannot be read."""
    try:
        return LabelBatch.model_validate_json(_path(project).read_bytes())
    except (OSError, ValidationError):
        return None


def write_batch(project: Project, batch: LabelBatch) -> None:
    """Make `batch` the project's."""
    write_atomically(_path(project), batch.model_dump_json(indent=1).encode())


def waiting(batch: LabelBatch | None, mirror: TaskMirror) -> tuple[Place, ...]:
    """The tasks of a batch that are still to be labelled, in order."""
    if batch is None:
        return ()
    markers, labelled = mirror.markers(), mirror.labels()
    return tuple(
        place
        for place in batch.places
        if place.task in markers and place.task not in labelled and not was_skipped(markers[place.task])
    )


def was_skipped(marker: str) -> bool:
    """Whether somebody skipped a task: Label Studio does not offer it to them again."""
    try:
        return bool(json.loads(marker)[2])
    except (ValueError, IndexError, TypeError):
        return False


def pool_fingerprint(mirror: TaskMirror) -> str:
    """Changes when a task or a label comes or goes."""
    known = json.dumps([sorted(mirror.markers()), sorted(mirror.labels())])
    return hashlib.sha256(known.encode()).hexdigest()[:32]


def score_of(place: int) -> float:
    """Ascending with the place, in [0, BATCH_BELOW)."""
    return BATCH_BELOW * place / (place + _HALF_WAY)


class Order:
    """The scores by which Label Studio is to serve, and what it was told of them last."""

    def __init__(self, path: Path, version: str, scores: Mapping[int, float]) -> None:
        """`path` keeps what was told; `scores` are those of the batch by task."""
        self._path = path
        self._version = version
        self._scores = dict(scores)

    @classmethod
    def of(cls, project: Project, version: str) -> Order:
        """The order of the project's batch; without one of this `version`, confidence alone."""
        batch = read_batch(project)
        mine = waiting(batch, project.mirror) if batch is not None and batch.version == version else ()
        scores = {place.task: score_of(place.place) for place in mine}
        return cls(project.root / "told.json", version, scores)

    def __len__(self) -> int:
        return len(self._scores)

    def score(self, prediction: Prediction) -> float:
        """The score that is told for a prediction: its place in the batch, else its confidence."""
        return self._scores.get(prediction.task, max(prediction.score, BATCH_BELOW))

    def untold(self, held: Iterable[int]) -> list[int]:
        """Of the tasks that Label Studio holds predictions of: those it may hold another score for."""
        told, wanted = self._told(), self._scores
        return sorted(task for task in {*told, *wanted} & set(held) if told.get(task) != wanted.get(task))

    def remember_told(self) -> None:
        """Label Studio holds the scores of this order now."""
        told = {"version": self._version, "scores": self._scores}
        write_atomically(self._path, json.dumps(told).encode())

    def tasks(self) -> list[int]:
        """The tasks of the batch, in order."""
        return sorted(self._scores, key=lambda task: (self._scores[task], task))

    def cold_start(self, task: int) -> Prediction:
        """A prediction without regions, as there is before any model; one that left the batch goes last."""
        return Prediction(task, [], self._scores.get(task, 1.0), self._version)

    def _told(self) -> dict[int, float]:
        try:
            told = json.loads(self._path.read_bytes())
            return {int(t): float(s) for t, s in told["scores"].items()} if self._is_mine(told) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _is_mine(self, told: Mapping[str, object]) -> bool:
        return told["version"] == self._version


def _path(project: Project) -> Path:
    return project.root / "batch.json"
