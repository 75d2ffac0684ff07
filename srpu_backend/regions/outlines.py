"""Polygons around the pixels of a mask: one ring per connected component, its holes cut in over bridges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.75
"""px by which a simplified outline may depart from the pixels'."""
_TOLERANCE_OF_SIZE = 0.04
"""… or this share of the root of a component's area, where that is less: small ones keep their form."""


@dataclass(frozen=True)
class Outline:
    """A connected component (8-neighbourhood)."""

    area: float
    """px²; of the outline, holes taken off."""
    points: NDArray[np.float64]
    """(N, 2) x and y in px; one ring, filled alike by the non-zero and the even-odd rule."""


def outlines(mask: NDArray[Any], tolerance: float = TOLERANCE) -> list[Outline]:
    """The components of a mask (H, W), bool or integer, the largest first; ties by place.

    With a tolerance of 0 px each outline fills to exactly the component's pixels.
    """
    # OpenCV draws its outlines through the middles of pixels. Of the mask at twice the size, they run a
    # quarter of a pixel inside of the true edge: around every middle of a pixel and around no other.
    doubled = np.repeat(np.repeat((mask != 0).astype(np.uint8), 2, axis=0), 2, axis=1)
    rings, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not rings:
        return []
    holes: dict[int, list[int]] = {index: [] for index, (*_, up) in enumerate(hierarchy[0]) if up < 0}
    for index, (*_, up) in enumerate(hierarchy[0]):
        if up >= 0:
            holes[up].append(index)
    found = [_outline(rings[outer], [rings[i] for i in inner], tolerance) for outer, inner in holes.items()]
    return sorted(found, key=lambda outline: (-outline.area, *outline.points[0].tolist()))


def joined(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One ring (N, 2) of several: from the first to each of the others, around it, and the same way back.

    A bridge is gone over once in each direction, so that it encloses nothing, whatever it crosses.
    """
    outer = rings[0]
    pieces: dict[int, list[NDArray[np.float64]]] = {}
    for ring in rings[1:]:
        start = int(np.argmin(ring[:, 0]))
        nearest = int(np.argmin(((outer - ring[start]) ** 2).sum(axis=1)))
        there_and_around = np.concatenate([ring[start:], ring[: start + 1], outer[nearest : nearest + 1]])
        pieces.setdefault(nearest, []).append(there_and_around)
    parts: list[NDArray[np.float64]] = []
    last = 0
    for index in sorted(pieces):
        parts += [outer[last : index + 1], *pieces[index]]
        last = index + 1
    return np.concatenate([*parts, outer[last:]])


def _outline(outer: NDArray[np.int32], inner: list[NDArray[np.int32]], tolerance: float) -> Outline:
    area = (cv2.contourArea(outer) - sum(map(cv2.contourArea, inner))) / 4
    tolerance = min(tolerance, _TOLERANCE_OF_SIZE * float(np.sqrt(max(area, 0))))
    return Outline(area, joined([_ring(ring, tolerance) for ring in (outer, *inner)]))


def _ring(contour: NDArray[np.int32], tolerance: float) -> NDArray[np.float64]:
    """(N, 2) px, at least three points."""
    simpler = cv2.approxPolyDP(contour, 2 * tolerance, True) if tolerance > 0 else contour
    points = (simpler if len(simpler) >= 3 else contour).reshape(-1, 2)
    return np.asarray(points / 2 + 0.25, np.float64)
