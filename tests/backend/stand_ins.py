"""Stand-ins at the edges of the web process: the job queue, the image store, the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import STATE_NAME, ClassInfo, ModelCard, ModelSpec
from model_zoo.inference import Segmentation
from srpu_backend.images import ImageUnavailable
from srpu_backend.projects import Connection, Project

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">
    <Label value="pore" background="#e6194b"/>
    <Label value="grain" background="#3b82f6"/>
  </BrushLabels>
</View>"""
SETUP = {
    "project": "1.1795332156",
    "schema": CONFIG,
    "hostname": "http://127.0.0.1:8091",
    "access_token": "0123456789abcdef0123456789abcdef01234567",
    "extra_params": None,
}


@dataclass
class RecordingJobs:
    """Records what was asked for; `broken` makes the queue refuse."""

    asked: list[tuple[str, int]] = field(default_factory=list)
    broken: bool = False
    warmed: int = 0

    def annotations_changed(self, project_id: int) -> None:
        self._ask("annotations", project_id)

    def tasks_changed(self, project_id: int) -> None:
        self._ask("tasks", project_id)

    def train_now(self, project_id: int, reason: str = "") -> None:
        self._ask("train", project_id)

    def queue(self, project_id: int) -> list[Any]:
        if self.broken:
            raise ConnectionError("the database is away: password=hunter2hunter2")
        return []

    def warm_up(self) -> None:
        self.warmed += 1

    def _ask(self, what: str, project_id: int) -> None:
        if self.broken:
            raise ConnectionError("the database is away")
        self.asked.append((what, project_id))


@dataclass
class FolderImages:
    """Grey images by reference; a missing one is unavailable."""

    folder: Path
    images: dict[str, NDArray[Any]] = field(default_factory=dict)

    def load(self, reference: str, connection: Connection | None, task_id: int | None = None) -> NDArray[Any]:
        if reference not in self.images:
            raise ImageUnavailable(f"{reference} cannot be read: there is no such image.")
        return self.images[reference]

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path:
        path = self.folder / f"{abs(hash(reference))}.png"
        cv2.imwrite(str(path), self.load(reference, connection))
        return path


class ThresholdSegmenter:
    """A network's place taken by a threshold: bright pixels are the last class, with probability 0.9."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.stacks: list[NDArray[Any]] = []

    def predict(self, stack: NDArray[Any]) -> Segmentation:
        self.stacks.append(stack)
        if (stack == 13).all():
            raise RuntimeError("a defect of the engine")
        bright = stack[0] > 128
        count = len(self.card.classes)
        probabilities = np.full((count, *bright.shape), 0.1 / (count - 1), np.float32)
        probabilities[0][~bright] = 0.9
        probabilities[-1][bright] = 0.9
        return Segmentation(probabilities.argmax(axis=0).astype(np.uint8), probabilities)


def load_threshold(folder: Path) -> ThresholdSegmenter:
    """What `Predictor.load` is for real models."""
    return ThresholdSegmenter(ModelCard.read(folder))


def publish(
    project: Project, number: int = 1, names: tuple[str, ...] = ("background", "pore", "grain"), **spec: Any
) -> str:
    """Publish and promote a version whose first class is the implicit background."""
    version = f"v{number:04d}-abc{number:03d}"
    source = project.root / "work" / version
    source.mkdir(parents=True)
    (source / STATE_NAME).write_bytes(version.encode())
    classes = tuple(ClassInfo(name=name, implicit=place == 0) for place, name in enumerate(names))
    card = ModelCard(
        version=version,
        created_at=datetime.now(UTC),
        spec=ModelSpec(classes=len(names), **spec),
        classes=classes,
    )
    project.registry.publish(source, card)
    project.registry.promote(version, "test")
    return version


def counting_clock(step: float) -> Callable[[], float]:
    """A clock that is `step` seconds later at every look."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += step
        return now

    return look
