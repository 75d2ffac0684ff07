"""Segmentation scores, all from counts that are summed first. numpy only.

A matrix is summed over images before anything is divided, so a class that covers three pixels of one image
does not weigh as much as one that fills another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import IGNORE_INDEX

Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def confusion(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> Counts:
    """Count pixels: int64 (C, C), rows truth, columns prediction.

    `truth` and `predicted` are integer arrays of one shape; pixels whose truth is 255 do not count. Raises
    `ValueError` where shapes differ or another value is not in 0 … classes − 1.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"The truth is {truth.shape}, the prediction {predicted.shape}.")
    counted = truth != IGNORE_INDEX
    rows = truth[counted].astype(np.int64)
    columns = predicted[counted].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(
                f"The {name} holds {values.min()} … {values.max()}; there are {classes} classes."
            )
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def iou(confusion: NDArray[Any]) -> Scores:
    """Intersection over union of each class: (…, C, C) → (…, C) in [0, 1].

    NaN for a class that occurs neither in the truth nor in the prediction.
    """
    hits, truth, predicted = _margins(confusion)
    return ratio(hits, truth + predicted - hits)


def labelled_iou(confusion: NDArray[Any]) -> Scores:
    """As `iou`, but NaN for every class without a pixel of truth: false alarms of a class nobody labelled
    already count against the classes they cover, and two models are compared over the same classes."""
    return in_truth(iou(confusion), confusion)


def miou(confusion: NDArray[Any]) -> Scores:
    """Mean IoU over the classes that occur in the truth: (…, C, C) → (…); NaN where none does."""
    return mean(labelled_iou(confusion))


def dice(confusion: NDArray[Any]) -> Scores:
    """Dice coefficient of each class, 2 |A ∩ B| / (|A| + |B|) (Dice, Ecology 26, 1945): (…, C, C) → (…, C).

    In [0, 1], the F1 of its pixels; NaN for a class that occurs neither in the truth nor in the prediction.
    """
    hits, truth, predicted = _margins(confusion)
    return ratio(2 * hits, truth + predicted)


def precision(confusion: NDArray[Any]) -> Scores:
    """Share of the pixels predicted as a class that are of it: (…, C, C) → (…, C); NaN where none is."""
    hits, _, predicted = _margins(confusion)
    return ratio(hits, predicted)


def recall(confusion: NDArray[Any]) -> Scores:
    """Share of a class's pixels that are found: (…, C, C) → (…, C); NaN for a class without any."""
    hits, truth, _ = _margins(confusion)
    return ratio(hits, truth)


def accuracy(confusion: NDArray[Any]) -> Scores:
    """Share of the pixels that are right: (…, C, C) → (…); NaN without pixels."""
    hits, truth, _ = _margins(confusion)
    return ratio(hits.sum(axis=-1), truth.sum(axis=-1))


def in_truth(scores: NDArray[Any], confusion: NDArray[Any]) -> Scores:
    """`scores` (…, C), but NaN for every class without a pixel of truth."""
    return np.where(np.asarray(confusion).sum(axis=-1) > 0, scores, np.nan)


def mean(scores: NDArray[Any]) -> Scores:
    """Mean over the classes that have a score: (…, C) → (…); NaN where none has."""
    present = ~np.isnan(scores)
    return ratio(np.where(present, scores, 0.0).sum(axis=-1), present.sum(axis=-1))


def _margins(confusion: NDArray[Any]) -> tuple[Scores, Scores, Scores]:
    """Of each class: pixels that are right, of the truth, and predicted."""
    counts = np.asarray(confusion, dtype=np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Scores:
    """`part / whole`, element by element; NaN where `whole` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    ratio: Scores = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio
