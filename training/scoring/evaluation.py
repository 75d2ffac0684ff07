"""Answers counted against the truth, image by image. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError
from training.data.manifest import IGNORE_INDEX, Manifest, Sample
from training.data.micrograph import image_size
from training.data.samples import read_truth
from training.scoring import metrics
from training.scoring.answers import Answers, BadPrediction, ModelAnswers, Segmenter
from training.scoring.boundary import boundary_counts
from training.scoring.scores import Scores, score

log = logging.getLogger(__name__)

EvaluatedPart = Literal["train", "holdout", "test", "pool", "all"]
"""A part of the manifest, or every labelled sample of it."""


class ImageScore(Frozen):
    """What was counted on one image."""

    key: str
    """`Sample.key`."""
    group: str
    confusion: tuple[tuple[int, ...], ...]
    """Pixels, rows truth, columns prediction, in the order of `Evaluation.classes`."""
    boundary: tuple[tuple[int, int, int, int], ...] = ()
    """By class, as `training.scoring.boundary.boundary_counts` counts; empty where that was not asked for."""

    @property
    def miou(self) -> float | None:
        """Over the classes that occur in this image's truth; None where there are none."""
        return _number(metrics.miou(np.array(self.confusion, dtype=np.int64)))


class Evaluation(Frozen):
    """What was counted of one model on one part of a manifest."""

    model: str
    """The model's version, empty for one that has none yet; or a folder of predictions."""
    part: EvaluatedPart
    classes: tuple[str, ...]
    """Of the manifest, whatever classes the model knows."""
    images: tuple[ImageScore, ...]
    problems: tuple[str, ...] = ()
    """One sentence for each image that could not be read and was left out."""
    boundary_tolerance: float | None = None
    """In px; None where boundaries were not counted."""
    scores: Scores | None = None
    """For readers of the file; whoever computes does so from the counts."""

    def counts(self) -> metrics.Counts:
        """Confusion of each image: int64 (images, C, C)."""
        size = len(self.classes)
        return np.array([image.confusion for image in self.images], dtype=np.int64).reshape(-1, size, size)

    def boundary_counts(self) -> NDArray[np.int64] | None:
        """Of each image: int64 (images, C, 4); None where they were not counted."""
        if self.boundary_tolerance is None:
            return None
        counts = [image.boundary for image in self.images]
        return np.array(counts, dtype=np.int64).reshape(-1, len(self.classes), 4)

    def scored(self, seed: int = 0) -> Scores:
        """All scores with their 95 % intervals, from 2000 draws of groups."""
        groups = [image.group for image in self.images]
        return score(self.classes, groups, self.counts(), self.boundary_counts(), seed=seed)

    def worst_first(self) -> tuple[ImageScore, ...]:
        """The images with a score, by their mIoU."""
        scored = [(image.miou, image) for image in self.images]
        known = [(miou, image) for miou, image in scored if miou is not None]
        return tuple(image for _, image in sorted(known, key=lambda pair: (pair[0], pair[1].key)))

    @property
    def miou(self) -> float | None:
        """Mean IoU over the classes that occur in the truth, in [0, 1]; None without any truth."""
        return _number(metrics.miou(self.counts().sum(axis=0)))

    @property
    def iou(self) -> dict[str, float | None]:
        """IoU by class name; None for a class that occurs neither in the truth nor in the predictions."""
        scores = metrics.iou(self.counts().sum(axis=0))
        return {name: _number(score) for name, score in zip(self.classes, scores, strict=True)}


def labelled(manifest: Manifest, part: EvaluatedPart) -> tuple[Sample, ...]:
    """The samples of `part` that have a mask."""
    samples = manifest.samples if part == "all" else manifest.of(part)
    return tuple(sample for sample in samples if sample.mask is not None)


def evaluate(
    predictor: Segmenter,
    manifest: Manifest,
    part: EvaluatedPart,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """`measure` what a model answers, without boundaries."""
    return measure(ModelAnswers(predictor, manifest.classes), manifest, part, report)


def measure(
    answers: Answers,
    manifest: Manifest,
    part: EvaluatedPart,
    report: Callable[[int, int], None] = lambda done, total: None,
    boundary_tolerance: float | None = None,
) -> Evaluation:
    """Count the answers to every labelled image of `part`; boundaries only with a tolerance, in px.

    An image that cannot be read, or does not fit its mask, is left out for every model alike and named in
    `problems`; a `BadPrediction` is raised. `report` is called with (images done, images in all).
    """
    samples = labelled(manifest, part)
    scores: list[ImageScore] = []
    problems: list[str] = []
    for done, sample in enumerate(samples):
        report(done, len(samples))
        try:
            scores.append(_count(answers, sample, len(manifest.classes), boundary_tolerance))
        except BadPrediction:
            raise
        except SRPUError as error:
            log.warning("%s is left out: %s", sample.key, error)
            problems.append(f"{sample.key} is left out: {error}")
    report(len(samples), len(samples))
    return Evaluation(
        model=answers.name,
        part=part,
        classes=tuple(info.name for info in manifest.classes),
        images=tuple(scores),
        problems=tuple(problems),
        boundary_tolerance=boundary_tolerance,
    )


def _count(answers: Answers, sample: Sample, classes: int, tolerance: float | None) -> ImageScore:
    width, height = image_size(sample.image)
    truth = read_truth(sample, (height, width), classes)
    predicted = answers.class_map(sample)
    unsaid = int(((predicted == IGNORE_INDEX) & (truth != IGNORE_INDEX)).sum())
    if unsaid:
        raise BadPrediction(
            f"The prediction for {sample.key} leaves {unsaid} px open (255) that are labelled; "
            "say a class there."
        )
    counted = metrics.confusion(truth, predicted, classes)
    outlines = None if tolerance is None else boundary_counts(truth, predicted, classes, tolerance)
    return ImageScore(
        key=sample.key,
        group=sample.group,
        confusion=tuple(map(tuple, counted.tolist())),
        boundary=() if outlines is None else tuple(map(tuple, outlines.tolist())),
    )


def _number(score: Any) -> float | None:
    return None if np.isnan(score) else float(score)
