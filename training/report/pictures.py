"""Micrographs with what was labelled and what was predicted, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError
from training import overlays
from training.data.manifest import Manifest, Sample
from training.data.micrograph import read_micrograph
from training.data.samples import read_truth
from training.report.content import Exhibit, Picture
from training.scoring.answers import Answers
from training.scoring.evaluation import Evaluation, ImageScore, labelled

Tell = Callable[[int, int], None]

LARGEST_SIDE = 1200
"""In px: pictures are shrunk to it, so that some of 400 Mpx fit into memory."""
_GAP = 12
_OPACITY = 0.3


def worst_pictures(
    answers: Answers,
    manifest: Manifest,
    evaluation: Evaluation,
    limit: int,
    report: Tell = lambda done, total: None,
) -> tuple[Exhibit, ...]:
    """The `limit` images with the lowest mIoU of `evaluation`, worst first, answered once more.

    Each with the labelled classes, the predicted ones, and where they differ.
    """
    samples = {sample.key: sample for sample in labelled(manifest, evaluation.part)}
    worst = evaluation.worst_first()[: max(limit, 0)]
    exhibits = []
    for done, image in enumerate(worst):
        report(done, len(worst))
        exhibits.append(_compared(answers, samples[image.key], image, manifest.classes))
    report(len(worst), len(worst))
    return tuple(exhibits)


def prediction_pictures(
    answers: Answers, samples: Sequence[Sample], classes: Sequence[ClassInfo], limit: int = 6
) -> tuple[Exhibit, ...]:
    """Images and what the answers make of them, `limit` of them spread over `samples`.

    One that cannot be read is passed over.
    """
    places = np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)
    exhibits = []
    for sample in (samples[place] for place in places):
        try:
            image, predicted = read_micrograph(sample.image), answers.class_map(sample)
        except SRPUError:
            continue
        pictures = (
            Picture("micrograph", _shrunk(_grey(image))),
            Picture("predicted", _shrunk(_tinted(image, predicted, classes))),
        )
        exhibits.append(Exhibit(sample.key, _shares(predicted, classes), pictures))
    return tuple(exhibits)


def side_by_side(exhibit: Exhibit) -> NDArray[np.uint8]:
    """An exhibit's pictures in a row, with a white gap: RGB (H, W, 3)."""
    height = max(picture.pixels.shape[0] for picture in exhibit.pictures)
    parts: list[NDArray[np.uint8]] = []
    for picture in exhibit.pictures:
        missing = height - picture.pixels.shape[0]
        parts.append(np.pad(picture.pixels, ((0, missing), (0, 0), (0, 0)), constant_values=255))
        parts.append(np.full((height, _GAP, 3), 255, dtype=np.uint8))
    return np.concatenate(parts[:-1], axis=1)


def _compared(answers: Answers, sample: Sample, score: ImageScore, classes: Sequence[ClassInfo]) -> Exhibit:
    image = read_micrograph(sample.image)
    truth = read_truth(sample, (image.shape[0], image.shape[1]), len(classes))
    predicted = answers.class_map(sample)
    pictures = (
        Picture("labelled", _shrunk(_tinted(image, truth, classes))),
        Picture("predicted", _shrunk(_tinted(image, predicted, classes))),
        Picture("errors", _shrunk(overlays.error_map(image, truth, predicted, classes))),
    )
    miou = "–" if score.miou is None else f"{100 * score.miou:.1f} %"
    return Exhibit(sample.key, f"mIoU {miou}", pictures)


def _tinted(
    image: NDArray[Any], class_map: NDArray[np.uint8], classes: Sequence[ClassInfo]
) -> NDArray[np.uint8]:
    """Faintly, with a rim: the micrograph shows through, and a crack of a few px is seen as well."""
    return overlays.overlay(image, class_map, classes, _OPACITY, rim=max(1, max(image.shape) // 700))


def _shares(class_map: NDArray[np.uint8], classes: Sequence[ClassInfo]) -> str:
    counts = np.bincount(class_map.ravel(), minlength=len(classes))
    shares = [
        f"{info.name} {count / class_map.size:.1%}" for info, count in zip(classes, counts, strict=False)
    ]
    return ", ".join(shares).replace("%", " %")


def _grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(overlays.display_grey(image)[..., None], 3, axis=2)


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = LARGEST_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    shrunk: NDArray[np.uint8] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return shrunk
