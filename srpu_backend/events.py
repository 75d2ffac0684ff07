"""Label Studio's webhook events, whatever their shape: which project, and what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from srpu_backend.projects import parse_project_id

Kind = Literal["annotations", "tasks", "project", "train"]

EVENTS: Mapping[str, Kind] = {
    "ANNOTATION_CREATED": "annotations",
    "ANNOTATION_UPDATED": "annotations",
    "ANNOTATION_DELETED": "annotations",  # what label-studio-ml expects; Label Studio sends the plural
    "ANNOTATIONS_CREATED": "annotations",
    "ANNOTATIONS_DELETED": "annotations",
    "TASKS_CREATED": "tasks",
    "TASKS_DELETED": "tasks",
    "PROJECT_UPDATED": "project",
    "START_TRAINING": "train",
}


@dataclass(frozen=True)
class Event:
    """What an event asks of us. Which tasks it names does not matter: reconciling finds what changed."""

    kind: Kind
    project: int
    title: str | None = None
    label_config: str | None = None


def read_event(payload: Mapping[str, Any]) -> Event | None:
    """The event in a webhook's body; None for one that nothing depends on.

    Events carry the whole project; annotations and tasks come as an object, a list, or ids only,
    and are not looked into. Raises `BadProjectReference` when the project cannot be told.
    """
    action = payload.get("action")
    kind = EVENTS.get(action) if isinstance(action, str) else None
    if kind is None:
        return None
    project = payload.get("project")
    described = project if isinstance(project, Mapping) else {"id": project}
    return Event(
        kind=kind,
        project=parse_project_id(described.get("id")),
        title=_text_or_none(described.get("title")),
        label_config=_text_or_none(described.get("label_config")) or None,
    )


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
