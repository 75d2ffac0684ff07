"""A model's answers counted against the truth, image by image. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Frozen, ModelCard
from model_zoo.errors import SRPUError
from model_zoo.inference import Segmentation
from training import metrics
from training.data.manifest import Manifest, Part, Sample
from training.data.samples import read_stack, read_truth

log = logging.getLogger(__name__)


class Segmenter(Protocol):
    """The part of `model_zoo.inference.Predictor` that is needed here."""

    card: ModelCard

    def predict(self, stack: NDArray[Any]) -> Segmentation: ...


class ImageScore(Frozen):
    """What was counted on one image."""

    key: str
    """`Sample.key`."""
    group: str
    confusion: tuple[tuple[int, ...], ...]
    """Pixels, rows truth, columns prediction, in the order of `Evaluation.classes`."""


class Evaluation(Frozen):
    """Scores of one model on one part of a manifest."""

    model: str
    """The model's version; empty for one that has none yet."""
    part: Part
    classes: tuple[str, ...]
    """Of the manifest, whatever classes the model knows."""
    images: tuple[ImageScore, ...]
    problems: tuple[str, ...] = ()
    """One sentence for each image that could not be read and was left out."""

    def counts(self) -> metrics.Counts:
        """Confusion of each image: int64 (images, C, C)."""
        size = len(self.classes)
        return np.array([image.confusion for image in self.images], dtype=np.int64).reshape(-1, size, size)

    @property
    def miou(self) -> float | None:
        """Mean IoU over the classes that occur in the truth, in [0, 1]; None without any truth."""
        return _number(metrics.miou(self.counts().sum(axis=0)))

    @property
    def iou(self) -> dict[str, float | None]:
        """IoU by class name; None for a class that occurs neither in the truth nor in the predictions."""
        scores = metrics.iou(self.counts().sum(axis=0))
        return {name: _number(score) for name, score in zip(self.classes, scores, strict=True)}


def evaluate(
    predictor: Segmenter,
    manifest: Manifest,
    part: Part,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Let `predictor` segment every labelled image of `part` and count.

    Classes are matched by name: one that the model does not know is never predicted, one that only the model
    knows counts as index 0. An image that cannot be read, or does not fit its mask, is left out for every
    model alike and named in `problems`. `report` is called with (images done, images in all).
    """
    samples = [sample for sample in manifest.of(part) if sample.mask is not None]
    table = class_table(predictor.card, [info.name for info in manifest.classes])
    scores: list[ImageScore] = []
    problems: list[str] = []
    for done, sample in enumerate(samples):
        report(done, len(samples))
        try:
            scores.append(_score(predictor, sample, table, len(manifest.classes)))
        except SRPUError as error:
            log.warning("%s is left out: %s", sample.key, error)
            problems.append(f"{sample.key} is left out: {error}")
    report(len(samples), len(samples))
    return Evaluation(
        model=predictor.card.version,
        part=part,
        classes=tuple(info.name for info in manifest.classes),
        images=tuple(scores),
        problems=tuple(problems),
    )


def class_table(card: ModelCard, wanted: Sequence[str]) -> NDArray[np.uint8]:
    """Index in `wanted` of each of the model's classes, by name: uint8 (model's classes,); 0 if not there."""
    places = {name: index for index, name in enumerate(wanted)}
    return np.array([places.get(info.name, 0) for info in card.classes], dtype=np.uint8)


def _score(predictor: Segmenter, sample: Sample, table: NDArray[np.uint8], classes: int) -> ImageScore:
    stack = read_stack(sample, predictor.card.spec.input_depth)
    truth = read_truth(sample, (stack.shape[1], stack.shape[2]), classes)
    predicted = table[predictor.predict(stack).class_map]
    counted = metrics.confusion(truth, predicted, classes)
    return ImageScore(key=sample.key, group=sample.group, confusion=tuple(map(tuple, counted.tolist())))


def _number(score: Any) -> float | None:
    return None if np.isnan(score) else float(score)
