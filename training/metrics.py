"""Segmentation scores, all from one confusion matrix. numpy only.

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
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(axis=-1) + counts.sum(axis=-2) - hits
    scores: Scores = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return scores


def labelled_iou(confusion: NDArray[Any]) -> Scores:
    """As `iou`, but NaN for every class without a pixel of truth: false alarms of a class nobody labelled
    already count against the classes they cover, and two models are compared over the same classes."""
    scores = iou(confusion)
    return np.where(np.asarray(confusion).sum(axis=-1) > 0, scores, np.nan)


def miou(confusion: NDArray[Any]) -> Scores:
    """Mean IoU over the classes that occur in the truth: (…, C, C) → (…); NaN where none does."""
    scores = labelled_iou(confusion)
    present = ~np.isnan(scores)
    total = np.where(present, scores, 0.0).sum(axis=-1)
    number = present.sum(axis=-1)
    means: Scores = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return means
