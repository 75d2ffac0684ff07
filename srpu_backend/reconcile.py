"""Bring a project's mirror up to date with Label Studio by asking what changed.

Nothing depends on a webhook having arrived: events only say *when* to ask.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from model_zoo.files import locked
from srpu_backend.mirror import Counts, MirroredTask, counting_annotation, label_fingerprint
from srpu_backend.projects import Project, Projects

_CHUNK = 50
"""Tasks whose annotations are kept at once."""
_OVERLAP = timedelta(minutes=2)
"""Label Studio stamps a change before it commits it: look back as far as a slow request takes."""


class TaskSource(Protocol):
    """The part of `Studio` that reconciling needs."""

    def project(self, id: int) -> dict[str, Any]: ...
    def task_rows(self, id: int, changed_since: str = "") -> Iterator[dict[str, Any]]: ...
    def export(self, id: int, task_ids: Sequence[int]) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Changes:
    """What a reconciliation found."""

    counts: Counts
    pulled: int
    """Tasks that are new or differ."""
    removed: int
    labels_changed: bool
    """A label appeared, changed or went away, or the label config did."""


def reconcile(
    projects: Projects,
    project_id: int,
    studio: TaskSource,
    clock: Callable[[], datetime],
    thorough: bool = False,
) -> Changes:
    """Pull what changed since last time into the project's mirror, and its title and label config.

    Only tasks stamped since the newest one we know are asked for, and all of them when the number of tasks
    tells that some went away, or when it is to be `thorough`.

    Raises:
        StudioError: Label Studio cannot be reached or refuses; the mirror keeps what was pulled so far.
    """
    project = projects.get(project_id)
    with locked(project.root / "reconcile.lock"):
        config_before, labels_before = project.label_config_xml, project.mirror.labels()
        described = studio.project(project_id)
        project = projects.remember(
            project_id, title=described.get("title"), label_config=described.get("label_config")
        )
        pulled = 0 if thorough else _pull_changed(project, studio)
        removed = 0
        if thorough or project.mirror.counts().tasks != described.get("task_number"):
            all_pulled, removed = _pull_all(project, studio)
            pulled += all_pulled
        counts = project.mirror.counts()
        project.update_state(tasks=counts.tasks, labelled=counts.labelled, last_reconcile=clock())
        return Changes(
            counts=counts,
            pulled=pulled,
            removed=removed,
            labels_changed=labels_before != project.mirror.labels()
            or config_before != project.label_config_xml,
        )


def _pull_changed(project: Project, studio: TaskSource) -> int:
    known = project.mirror.markers()
    stamps = [str(json.loads(text)[0]) for text in known.values()]
    since = (datetime.fromisoformat(max(stamps)) - _OVERLAP) if stamps else None
    filter = "" if since is None else since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return _pull(project, studio, known, studio.task_rows(project.id, changed_since=filter))


def _pull_all(project: Project, studio: TaskSource) -> tuple[int, int]:
    known = project.mirror.markers()
    rows = list(studio.task_rows(project.id))
    pulled = _pull(project, studio, known, rows)
    gone = known.keys() - {int(row["id"]) for row in rows}
    project.mirror.remove(gone)
    return pulled, len(gone)


def _pull(
    project: Project, studio: TaskSource, known: Mapping[int, str], rows: Iterable[dict[str, Any]]
) -> int:
    changed = [row for row in rows if known.get(int(row["id"])) != marker(row)]
    annotated = [row for row in changed if _has_annotations(row)]
    project.mirror.upsert(_mirrored(row, ()) for row in changed if not _has_annotations(row))
    for chunk in _chunks(annotated):
        exported = {int(t["id"]): t for t in studio.export(project.id, [int(row["id"]) for row in chunk])}
        project.mirror.upsert(
            _mirrored(row, exported.get(int(row["id"]), {}).get("annotations", ())) for row in chunk
        )
    return len(changed)


def _has_annotations(row: Mapping[str, Any]) -> bool:
    return bool(row.get("total_annotations") or row.get("cancelled_annotations"))


def marker(row: Mapping[str, Any]) -> str:
    """What changes whenever a task or one of its annotations does."""
    facts = [row.get(k) for k in ("updated_at", "total_annotations", "cancelled_annotations", "is_labeled")]
    return json.dumps(facts)


def _mirrored(row: Mapping[str, Any], annotations: Iterable[Mapping[str, Any]]) -> MirroredTask:
    annotation = counting_annotation(list(annotations))
    return MirroredTask(
        id=int(row["id"]),
        marker=marker(row),
        data=dict(row["data"]),
        annotation=None if annotation is None else _kept(annotation),
        label=label_fingerprint(annotation),
    )


def _kept(annotation: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("id", "result", "ground_truth", "created_at", "updated_at", "lead_time", "parent_prediction")
    return {name: annotation[name] for name in wanted if name in annotation}


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
