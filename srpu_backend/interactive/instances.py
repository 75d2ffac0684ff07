"""Areas that touch, told apart by their shape."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from srpu_backend.interactive.prompts import Click

NECK = 0.75
"""Two parts are one when the neck between them is wider than this share of the narrower part."""


def split_at(mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """Of `mask` (H, W), the parts that were clicked: watershed of the distance to the outline.

    Maxima of the distance that a neck of less than `NECK` of the smaller one separates are instances
    (flooding: Vincent and Soille 1991, PAMI 13:583; markers: h-maxima, Soille 2003, section 6.3.4).
    """
    distance = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    markers = _markers(distance)
    basins = _flooded(distance, markers)
    wanted = {int(basins[c.y, c.x]) for c in clicks if mask[c.y, c.x]}
    parts: NDArray[np.bool_] = mask & np.isin(basins, [w for w in wanted if w > 0])
    return parts if parts.any() else mask


def _markers(distance: NDArray[np.float32]) -> NDArray[np.int32]:
    """1, 2, … on the maxima that stand out: those left of `distance` rebuilt from `NECK` of itself."""
    rebuilt = distance * NECK
    square = np.ones((3, 3), np.uint8)
    while True:  # reconstruction by dilation, a pixel of the widest part a step
        grown = np.minimum(cv2.dilate(rebuilt, square), distance)
        if np.array_equal(grown, rebuilt):
            break
        rebuilt = grown
    tops = (distance > 0) & (cv2.dilate(rebuilt, square) == rebuilt) & (rebuilt < distance)
    _, labels = cv2.connectedComponents(tops.astype(np.uint8))
    return np.asarray(labels, np.int32)


def _flooded(distance: NDArray[np.float32], markers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Basins (H, W) of the negated distance; the lines between them go to the nearest."""
    relief = np.round(255 * (1 - distance / max(float(distance.max()), 1e-6))).astype(np.uint8)
    flooded = markers.copy()
    if markers.max() > 1:
        cv2.watershed(cv2.cvtColor(relief, cv2.COLOR_GRAY2BGR), flooded)
    else:
        flooded[:] = markers.max()
    lines = (flooded == -1).astype(np.uint8)
    if lines.any():
        grown = cv2.dilate(np.where(lines, 0, flooded).astype(np.float32), np.ones((3, 3), np.uint8))
        flooded = np.where(lines > 0, grown.astype(np.int32), flooded)
    return flooded
