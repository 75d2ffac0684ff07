"""Areas that touch, told apart by their shape."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from srpu_backend.interactive.prompts import Click

NECK = 0.75
"""Two parts are one when the neck between them is wider than this share of the narrower part."""
_SQUARE = np.ones((3, 3), np.uint8)


def split_at(mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """Of `mask` (H, W), the parts that were clicked.

    Cores are the maxima of the distance to the outline that stand out: a neck of less than `NECK` of the
    narrower part lies between any two (h-maxima with a height in proportion, Soille 2003, section 6.3.4).
    Every pixel goes to the nearest core.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return mask
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    area = mask[part].astype(np.uint8)
    cores = _cores(cv2.distanceTransform(np.pad(area, 1), cv2.DIST_L2, 5)[1:-1, 1:-1])
    _, basins = cv2.distanceTransformWithLabels(1 - cores, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    wanted = {int(basins[c.y - rows[0], c.x - columns[0]]) for c in clicks if mask[c.y, c.x]}
    if not wanted:
        return mask
    split = np.zeros_like(mask)
    split[part] = (area > 0) & np.isin(basins, list(wanted))
    return split


def _cores(distance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """1 on the plateaus that remain when `distance` is rebuilt from `NECK` of itself."""
    rebuilt = distance * np.float32(NECK)
    while True:  # reconstruction by dilation; as many steps as the longest way from a maximum
        grown = np.minimum(cv2.dilate(rebuilt, _SQUARE), distance)
        if np.array_equal(grown, rebuilt):
            break
        rebuilt = grown
    tops = (distance > 0) & (cv2.dilate(rebuilt, _SQUARE) == rebuilt) & (rebuilt < distance)
    cores: NDArray[np.uint8] = tops.astype(np.uint8)
    return cores
