"""When is there something to do? Told from what lies on disk, never from which events arrived.

So a lost webhook, a killed process or a Label Studio that was away for a week change nothing: the next
look finds the same work to do.
"""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from model_zoo.card import Frozen
from model_zoo.files import write_atomically
from srpu_backend.projects import Project
from srpu_backend.settings import Settings


class Attempt(Frozen):
    """The last training that was started, whatever came of it."""

    run: str
    """Id of the workflow that made it."""
    version: str
    """The version it makes; '' until that is reserved."""
    labels: dict[int, str]
    """Task id → fingerprint of its label, of all labelled tasks there were."""
    config: str
    """Fingerprint of the label config."""
    failed: bool = False


def last_attempt(project: Project) -> Attempt | None:
    """The project's last attempt; None before the first, or when what is kept cannot be read."""
    try:
        return Attempt.model_validate_json(_path(project).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def remember_attempt(project: Project, attempt: Attempt) -> None:
    """Make `attempt` the project's last one."""
    write_atomically(_path(project), attempt.model_dump_json().encode())


def config_fingerprint(project: Project) -> str:
    """Hash of the label config: another one gives other masks."""
    return hashlib.sha256(project.label_config_xml.encode()).hexdigest()[:32]


def training_due(project: Project, settings: Settings) -> str | None:
    """Why a training is due now, for a person to read; None when it is not.

    Due is the first one as soon as `first_training_after` tasks are labelled, and another one when the
    labels that are new, changed or gone since the last attempt make up the share `retrain_growth` of
    those it learnt from (at least one), when the label config changed, or, after a failure, when any
    label did.
    """
    labels = project.mirror.labels()
    if len(labels) < settings.first_training_after:
        return None
    attempt = last_attempt(project)
    if attempt is None:
        return f"{len(labels)} {_labels(len(labels))} to start with"
    if attempt.config != config_fingerprint(project):
        return "the label config changed"
    changed = changed_labels(attempt.labels, labels)
    needed = 1 if attempt.failed else max(1, math.ceil(settings.retrain_growth * len(attempt.labels)))
    return f"{changed} new or changed {_labels(changed)}" if changed >= needed else None


def _labels(count: int) -> str:
    return "label" if count == 1 else "labels"


def changed_labels(before: dict[int, str], now: dict[int, str]) -> int:
    """How many tasks got a label, another one, or lost it."""
    return sum(before.get(id) != now.get(id) for id in before.keys() | now.keys())


def predictions_due(project: Project, now: datetime) -> bool:
    """True when unlabelled tasks lack a prediction of the champion; `ranking.ranking_due` asks the rest."""
    champion = project.registry.champion()
    return champion is not None and project.mirror.count_unpredicted(champion, now) > 0


def _path(project: Project) -> Path:
    return project.root / "attempt.json"
