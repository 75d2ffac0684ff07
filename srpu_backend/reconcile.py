"""Bring a project's mirror up to date with Label Studio by asking what changed.

Nothing depends on a webhook having arrived: events only say *when* to ask.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from srpu_backend.files import locked
from srpu_backend.mirror import Counts, MirroredTask, counting_annotation, label_fingerprint
from srpu_backend.projects import Project, Projects

_CHUNK = 200
"""Tasks whose annotations are asked for at once: about 10 MB of brush strokes (measured 0.5 s)."""


class TaskSource(Protocol):
    """The part of `Studio` that reconciling needs."""

    def project(self, id: int) -> dict[str, Any]: ...
    def task_rows(self, id: int) -> Iterator[dict[str, Any]]: ...
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
    projects: Projects, project_id: int, studio: TaskSource, clock: Callable[[], datetime]
) -> Changes:
    """Pull what changed since last time into the project's mirror, and its title and label config.

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
        pulled, removed = _pull(project, studio)
        counts = project.mirror.counts()
        project.update_state(tasks=counts.tasks, labelled=counts.labelled, last_reconcile=clock())
        return Changes(
            counts=counts,
            pulled=pulled,
            removed=removed,
            labels_changed=labels_before != project.mirror.labels()
            or config_before != project.label_config_xml,
        )


def _pull(project: Project, studio: TaskSource) -> tuple[int, int]:
    known = project.mirror.markers()
    rows = {int(row["id"]): row for row in studio.task_rows(project.id)}
    changed = [row for id, row in rows.items() if known.get(id) != marker(row)]
    annotated = [row for row in changed if row.get("total_annotations") or row.get("cancelled_annotations")]
    bare = [row for row in changed if not (row.get("total_annotations") or row.get("cancelled_annotations"))]
    project.mirror.upsert(_mirrored(row, ()) for row in bare)
    for chunk in _chunks(annotated):
        exported = {int(t["id"]): t for t in studio.export(project.id, [int(row["id"]) for row in chunk])}
        project.mirror.upsert(
            _mirrored(row, exported.get(int(row["id"]), {}).get("annotations", ())) for row in chunk
        )
    gone = known.keys() - rows.keys()
    project.mirror.remove(gone)
    return len(changed), len(gone)


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
