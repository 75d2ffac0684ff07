"""Mirror → manifest, masks and images: what one training learns from, immutable and named by its content."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_zoo.errors import SRPUError
from srpu_backend.due import config_fingerprint
from srpu_backend.frames import ImageFiles, frames_around, image_reference
from srpu_backend.mirror import MirroredTask
from srpu_backend.projects import Project
from srpu_backend.regions import masks_from_results
from training.data.holdout import HoldoutLedger
from training.data.manifest import IGNORE_INDEX, Manifest, Sample
from training.data.masks import write_mask
from training.data.micrograph import image_size
from training.data.names import group_of, parse_name


class NothingToLearn(SRPUError):
    """No labelled task could be turned into a sample."""


@dataclass(frozen=True)
class SnapshotResult:
    """A snapshot on disk and what was left out of it."""

    manifest: Path
    hash: str
    """`Manifest.content_hash`: the same labels and images give the same one."""
    training_images: int
    holdout_images: int
    problems: tuple[str, ...]
    """One sentence for each task that was left out or not fully understood."""


def build(
    project: Project,
    images: ImageFiles,
    holdout_share: float,
    go_on: Callable[[], None] = lambda: None,
    input_depth: int = 1,
) -> SnapshotResult:
    """Write `snapshots/<hash>/manifest.json` from the labelled tasks of the mirror.

    A task whose image or mask cannot be read is left out and named in `problems`; the others go on.
    Unchanged content gives the same folder, and no mask is decoded twice.

    Args:
        project: its mirror must be up to date.
        images: where originals come from.
        holdout_share: share of the images to keep for the gate.
        go_on: called before each task; may raise to give up.
        input_depth: how many frames of a sequence are to be looked at together; odd.

    Raises:
        BadLabelConfig: the project's label config cannot be served.
        NothingToLearn: not one labelled task could be read.
    """
    samples: list[Sample] = []
    problems: list[str] = []
    for task in project.mirror.labelled():
        go_on()
        try:
            sample, said = _sample(project, images, task, input_depth)
        except SRPUError as error:
            problems.append(f"Task {task.id} is left out: {error}")
            continue
        samples.append(sample)
        problems += [f"Task {task.id}: {problem}" for problem in said]
    if not samples:
        why = problems[0] if problems else "no task is labelled."
        raise NothingToLearn(f"There is nothing to learn from yet. {why}")
    manifest = Manifest(
        classes=project.label_config.classes, samples=tuple(_with_parts(project, samples, holdout_share))
    )
    return SnapshotResult(
        manifest=_written(project, manifest),
        hash=manifest.content_hash,
        training_images=len(manifest.of("train")),
        holdout_images=len(manifest.of("holdout")),
        problems=tuple(problems),
    )


def _sample(
    project: Project, images: ImageFiles, task: MirroredTask, depth: int
) -> tuple[Sample, tuple[str, ...]]:
    field = project.label_config.image_field
    reference = image_reference(task.data, field)
    if reference is None:
        raise NothingToLearn(f"its data has no image: neither `original` nor `{field}` names one.")
    image = images.fetch(reference, project.connection, task.id)
    mask, problems = _mask(project, task, image_size(image))
    shown = str(task.data.get(field) or task.data.get("original"))
    name = parse_name(shown)
    sequence = task.data.get("sequence") or name.sequence
    frame = task.data.get("frame", name.frame)
    frames = frames_around(project, images, task.id, task.data, image, depth)
    sample = Sample(
        key=f"task-{task.id}",
        image=image,
        mask=mask,
        group=str(sequence or group_of(shown)),
        sequence=None if sequence is None else str(sequence),
        frame=frame if isinstance(frame, int) else None,
        frames=frames,
        content=":".join([image.stem, mask.stem, *(frame.stem for frame in frames)]),
    )
    return sample, problems


def _mask(project: Project, task: MirroredTask, size: tuple[int, int]) -> tuple[Path, tuple[str, ...]]:
    """The label as an index PNG of the image's `size` (width, height), decoded once and then remembered."""
    key = f"{config_fingerprint(project)}:{size[0]}x{size[1]}"
    known = project.mirror.decoded(task.label, key)
    if known is not None and known[0] is not None and (project.root / "masks" / known[0]).exists():
        return project.root / "masks" / known[0], known[1]
    results = task.annotation["result"] if task.annotation else []
    decoded = masks_from_results(results, project.label_config, size)
    if (decoded.mask == IGNORE_INDEX).all():
        said = " ".join(decoded.problems) or "its annotation marks nothing."
        raise NothingToLearn(said)
    classes = project.label_config.classes
    facts = [decoded.mask.shape, [c.model_dump() for c in classes]]
    digest = hashlib.sha256(repr(facts).encode() + np.ascontiguousarray(decoded.mask).tobytes()).hexdigest()
    path = project.root / "masks" / f"{digest}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_mask(path, decoded.mask, classes)
    project.mirror.remember_decoded(task.label, key, path.name, decoded.problems)
    return path, tuple(decoded.problems)


def _with_parts(project: Project, samples: list[Sample], holdout_share: float) -> Iterator[Sample]:
    groups = Counter(sample.group for sample in samples)
    holdout = HoldoutLedger(project.root / "holdout.json").assign(groups, holdout_share)
    for sample in samples:
        yield sample.model_copy(update={"part": "holdout" if sample.group in holdout else "train"})


def _written(project: Project, manifest: Manifest) -> Path:
    folder = project.root / "snapshots" / manifest.content_hash[:16]
    path = folder / "manifest.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Relative, so that MODEL_DIR can be moved or mounted elsewhere.
        portable = [
            sample.model_copy(
                update={
                    "image": Path(os.path.relpath(sample.image, folder)),
                    "frames": tuple(Path(os.path.relpath(frame, folder)) for frame in sample.frames),
                    "mask": None if sample.mask is None else Path(os.path.relpath(sample.mask, folder)),
                }
            )
            for sample in manifest.samples
        ]
        manifest.model_copy(update={"samples": tuple(portable)}).write(path)
    return path
