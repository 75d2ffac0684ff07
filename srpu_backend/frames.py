"""The frames around a task's image: found among all tasks of its project, for training and serving alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from srpu_backend.images import ImageUnavailable
from srpu_backend.mirror import FramePlace
from training.data.names import folder_of, parse_name
from training.data.stacks import filled_up

if TYPE_CHECKING:
    from srpu_backend.projects import Connection, Project

_SPARE = 4
"""How many frames that cannot be had are passed over on either side."""


class ImageFiles(Protocol):
    """The part of `ImageStore` that frames need."""

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path: ...


def image_reference(data: Mapping[str, Any], image_field: str) -> str | None:
    """The image to learn from and predict on: the original (TIFF, 16 bit) where there is one."""
    for field in ("original", image_field):
        reference = data.get(field)
        if isinstance(reference, str) and reference.strip():
            return reference
    return None


def place_of(data: Mapping[str, Any], image_field: str) -> FramePlace | None:
    """Where a task's image stands in its sequence: as its data say, else its name; None where neither does.

    Sequences that names alone tell are apart in different folders.
    """
    shown = data.get(image_field) or data.get("original")
    shown = shown if isinstance(shown, str) else ""
    name = parse_name(shown)
    given, frame = data.get("sequence"), data.get("frame", name.frame)
    sequence = given or name.sequence
    if sequence is None or not isinstance(frame, int):
        return None
    return FramePlace("" if given else folder_of(shown), str(sequence), frame, shown)


def frames_around(
    project: Project,
    images: ImageFiles,
    task_id: int | None,
    data: Mapping[str, Any],
    image: Path,
    depth: int,
) -> tuple[Path, ...]:
    """`depth` files with `image` in the middle, as `Sample.frames`; empty for depth 1 or without a sequence.

    Neighbours are the tasks before and after in the sequence, labelled or not. One whose image cannot be had
    is passed over; at the ends the nearest frame is repeated.
    """
    field = project.label_config.image_field
    place = place_of(data, field) if depth > 1 else None
    if place is None:
        return ()
    project.mirror.settle_places(field, lambda data: place_of(data, field))
    reach = depth // 2
    before, after = project.mirror.around(place, task_id or 0, reach + _SPARE)
    return filled_up(
        image,
        list(islice(_available(project, images, before), reach)),
        list(islice(_available(project, images, after), reach)),
        reach,
    )


def _available(
    project: Project, images: ImageFiles, tasks: list[tuple[int, dict[str, Any]]]
) -> Iterator[Path]:
    for id, data in tasks:
        reference = image_reference(data, project.label_config.image_field)
        if reference is None:
            continue
        try:
            yield images.fetch(reference, project.connection, id)
        except ImageUnavailable:
            continue
