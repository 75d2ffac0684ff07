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
_BRIDGE_CANDIDATES = 256
"""Points among which the nearest is sought for a bridge: a longer bridge is uglier, never wrong."""

Points = NDArray[np.float64]
Contour = NDArray[np.int32]


@dataclass(frozen=True)
class Component:
    """Pixels that hang together (8-neighbourhood), by the contours of the mask at twice the size."""

    outer: Contour
    holes: tuple[Contour, ...]

    @property
    def area(self) -> float:
        """px²; of the outlines, a little less than the pixels'."""
        return (_area(self.outer) - sum(map(_area, self.holes))) / 4

    def outline(self, tolerance: float = TOLERANCE) -> Points:
        """(N, 2) x and y in px; one ring, which the non-zero and the even-odd rule fill alike.

        With a tolerance of 0 px it fills to exactly the component's pixels.
        """
        tolerance = min(tolerance, _TOLERANCE_OF_SIZE * float(np.sqrt(max(self.area, 0))))
        return joined([_ring(contour, tolerance) for contour in (self.outer, *self.holes)])


def components(mask: NDArray[Any]) -> list[Component]:
    """The connected components of a mask (H, W), bool or integer, in no particular but a fixed order."""
    # OpenCV draws its contours through the middles of pixels. Of the mask at twice the size, they run a
    # quarter of a pixel inside of the true edge: around every middle of a pixel and around no other.
    doubled = np.repeat(np.repeat((mask != 0).astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    holes: dict[int, list[Contour]] = {}
    parents = hierarchy[0][:, 3].tolist() if contours else []
    for contour, parent in zip(contours, parents, strict=True):
        if parent >= 0:
            holes.setdefault(parent, []).append(contour)
    return [
        Component(contour, tuple(holes.get(index, ())))
        for index, (contour, parent) in enumerate(zip(contours, parents, strict=True))
        if parent < 0
    ]


def joined(rings: Sequence[Points]) -> Points:
    """One ring (N, 2) of several: from the first to each of the others, around it, and the same way back.

    A bridge is gone over once in each direction, so that it encloses nothing, whatever it crosses.
    """
    outer = rings[0]
    by_x = np.argsort(outer[:, 0], kind="stable")
    xs = outer[by_x, 0]
    detours: dict[int, list[Points]] = {}
    for ring in rings[1:]:
        start = int(np.argmin(ring[:, 0]))
        at = int(np.searchsorted(xs, ring[start, 0])) - _BRIDGE_CANDIDATES // 2
        near = by_x[max(at, 0) : max(at, 0) + _BRIDGE_CANDIDATES]
        nearest = int(near[np.argmin(((outer[near] - ring[start]) ** 2).sum(axis=1))])
        detour = np.concatenate([ring[start:], ring[: start + 1], outer[nearest : nearest + 1]])
        detours.setdefault(nearest, []).append(detour)
    parts: list[Points] = []
    last = 0
    for index in sorted(detours):
        parts += [outer[last : index + 1], *detours[index]]
        last = index + 1
    return np.concatenate([*parts, outer[last:]])


def _area(contour: Contour) -> float:
    return float(cv2.contourArea(contour))


def _ring(contour: Contour, tolerance: float) -> Points:
    """(N, 2) px, at least three points."""
    simpler = cv2.approxPolyDP(contour, 2 * tolerance, True) if tolerance > 0 else contour
    points = (simpler if len(simpler) >= 3 else contour).reshape(-1, 2)
    return np.asarray(points / 2 + 0.25, np.float64)
