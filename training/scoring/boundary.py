"""How well outlines are met: the boundary F1 of Csurka et al. numpy and OpenCV only.

A boundary pixel is met when there is one of the same class in the other map within a tolerance (What is a
good evaluation measure for semantic segmentation?, BMVC 2013, section 3). IoU hardly notices outlines, of
which sizes and perimeters are measured; this does. Two departures from the paper:

- Counts are summed over the images before anything is divided, as in all of `training.scoring.metrics`; the
  paper averages over images.
- The tolerance is in px and not a share of the diagonal: its 0.75 % is wider than many a precipitate, which
  would be met from wherever.

Where the truth is 255 nobody said where the outline is: boundary pixels within the tolerance of such a pixel
do not count. Nor is the image's border a boundary.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.manifest import IGNORE_INDEX
from training.scoring.metrics import Scores, ratio

Mask = NDArray[np.bool_]

TOLERANCE_PX = 2.0
"""About how precisely an outline is drawn by hand."""
_EXACT = 1e-3  # OpenCV's distances are float32


def boundary_counts(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, tolerance: float = TOLERANCE_PX
) -> NDArray[np.int64]:
    """Count the boundary pixels of each class: int64 (C, 4).

    In this order: of the truth, those of them that are met, of the prediction, those that are met. `truth`
    and `predicted` are (H, W) of class indices, the truth with 255 = ignore; `tolerance` in px, ≥ 0.
    """
    ignored = truth == IGNORE_INDEX
    counted = _distance(ignored) > tolerance + _EXACT if ignored.any() else ~ignored
    counts = np.zeros((classes, 4), dtype=np.int64)
    for index in range(classes):
        outlines = [_boundary(class_map == index, ignored) for class_map in (truth, predicted)]
        for place, (outline, other) in enumerate((outlines, outlines[::-1])):
            outline = outline & counted
            number = int(outline.sum())
            met = int((_distance(other)[outline] <= tolerance + _EXACT).sum()) if number else 0
            counts[index, 2 * place : 2 * place + 2] = number, met
    return counts


def boundary_f1(counts: NDArray[Any]) -> Scores:
    """Harmonic mean of precision and recall of each class's boundary: (…, C, 4) → (…, C) in [0, 1].

    NaN for a class without a boundary in either map.
    """
    of_truth, truth_met, of_prediction, prediction_met = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision = ratio(prediction_met, of_prediction)
    recall = ratio(truth_met, of_truth)
    both = np.nan_to_num(precision) + np.nan_to_num(recall)
    f1 = ratio(2 * np.nan_to_num(precision) * np.nan_to_num(recall), both)
    return np.where((of_truth + of_prediction > 0) & np.isnan(f1), 0.0, f1)


def _boundary(region: Mask, ignored: Mask) -> Mask:
    """Pixels of the region with a neighbour, of eight, that is known to be outside of it."""
    region = region & ~ignored
    inner = cv2.erode((region | ignored).astype(np.uint8), np.ones((3, 3), np.uint8))
    boundary: Mask = region & (inner == 0)
    return boundary


def _distance(places: Mask) -> NDArray[np.float32]:
    """Of each pixel to the nearest of `places`, in px; infinite where there is none."""
    if not places.any():
        return np.full(places.shape, np.inf, dtype=np.float32)
    distance: NDArray[np.float32] = cv2.distanceTransform(
        (~places).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return distance
