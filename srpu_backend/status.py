"""What `/status` and `python -m srpu_backend status` tell: per project, and of the trainer."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from model_zoo.errors import SRPUError
from srpu_backend.annotator import UNTRAINED
from srpu_backend.projects import Project, Projects
from srpu_backend.ranking import next_tasks
from srpu_backend.settings import Settings
from training.learning_curve import Gain, Measured, expected_gain

log = logging.getLogger(__name__)

SHOWN_PROBLEMS = 10
HEARTBEAT_SECONDS = 30.0
"""A trainer that has not written for this long is called stopped."""


class Queued(Protocol):
    """What we need of `srpu_backend.jobs.Job`."""

    @property
    def kind(self) -> str: ...

    @property
    def status(self) -> str: ...

    @property
    def since(self) -> Any: ...

    @property
    def forced(self) -> bool: ...


QueueOf = Callable[[int], Sequence[Queued]]


def status(settings: Settings, queue_of: QueueOf, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """Everything a person wants to know, fit for JSON; whatever cannot be told says so in its place.

    Tokens are never part of it.
    """
    projects = Projects.of(settings)
    return {
        "trainer": _trainer(settings.model_dir / "worker.json", now()),
        "projects": [_project(projects, id, queue_of, settings) for id in projects.ids()],
    }


def _project(projects: Projects, id: int, queue_of: QueueOf, settings: Settings) -> dict[str, Any]:
    try:
        project = projects.get(id)
    except SRPUError as error:
        return {"id": id, "error": str(error)}
    state = project.state()
    problems = [problem.model_dump(mode="json") for problem in project.problems()[-SHOWN_PROBLEMS:]]
    return {
        "id": id,
        "title": project.title,
        "label_studio": project.connection.url if project.connection else None,
        "has_token": project.connection is not None,
        **_model(project),
        **_labels(project),
        **_next(project, settings),
        "more_labels": more_labels(project),
        "queue": _queue(id, queue_of),
        "job": state.model_dump(mode="json", include={"stage", "fraction", "message", "run"}),
        **state.model_dump(mode="json", exclude={"stage", "fraction", "message", "run"}),
        "problems": problems[::-1],
    }


def _model(project: Project) -> dict[str, Any]:
    try:
        champion = project.registry.champion()
        return {"model_version": champion or UNTRAINED, "versions": project.registry.versions()}
    except SRPUError as error:
        return {"model_version": None, "model_error": str(error)}


def _labels(project: Project) -> dict[str, Any]:
    try:
        return {"labels": [info.name for info in project.label_config.classes if not info.implicit]}
    except SRPUError as error:
        return {"labels": [], "label_config_error": str(error)}


def _next(project: Project, settings: Settings) -> dict[str, Any]:
    try:
        return dict(next_tasks(project, settings))
    except SRPUError as error:
        return {"next": [], "next_error": str(error)}


def more_labels(project: Project) -> str:
    """What the next ten labels would bring, told from the versions there are."""
    gain = _gain(tuple(_measured(project)))
    if gain is None:
        return "There are not enough versions to tell what more labels would bring."
    expected, low, high = (f"{100 * share:.1f}" for share in (gain.expected, gain.low, gain.high))
    return (
        f"The next {gain.labels} labels would raise the holdout mIoU by about {expected} points "
        f"({low} to {high}), after {gain.at} so far."
    )


@lru_cache(maxsize=64)
def _gain(points: tuple[Measured, ...]) -> Gain | None:
    return expected_gain(points)


def _measured(project: Project) -> list[Measured]:
    """Each version's mIoU on the holdout there was when it was judged, against the labels there were."""
    found = []
    for card in project.registry.cards():
        gate = card.metrics.get("gate")
        score = gate.get("challenger_miou") if isinstance(gate, dict) else None
        if isinstance(score, int | float):
            found.append(Measured(card.training_images + card.holdout_images, float(score)))
    return found


def _queue(id: int, queue_of: QueueOf) -> list[dict[str, Any]] | str:
    try:
        return [
            {"kind": j.kind, "status": j.status, "since": j.since.isoformat(), "forced": j.forced}
            for j in queue_of(id)
        ]
    except Exception:  # the queue's database may fail in ways of its own; the rest is still worth telling
        log.exception("the job queue cannot be read")
        return "The job queue cannot be read; the backend's log tells why."


def _trainer(path: Path, now: float) -> dict[str, Any]:
    """The heartbeat file is rewritten every few seconds while the trainer lives."""
    try:
        age = max(0.0, now - path.stat().st_mtime)
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"running": False, "message": "No trainer has run yet: start `python -m srpu_backend worker`."}
    except (OSError, ValueError):
        return {"running": False, "message": f"{path} cannot be read."}
    running = age < HEARTBEAT_SECONDS
    hint = (
        {} if running else {"message": "The trainer is not running: start `python -m srpu_backend worker`."}
    )
    told = told if isinstance(told, dict) else {}
    return {"running": running, "seconds_since_heartbeat": round(age, 1), **hint, **told}
