"""Core-set selection: the points that leave nothing far from what was chosen. Exact, in bounded memory.

Greedy k-center (Gonzalez, Theoretical Computer Science 38, 1985; for active learning Sener & Savarese, Active
Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018, algorithm 1): the next centre is
the point farthest from all centres there are, labelled ones included. It is within a factor of two of the
best cover.

Squared distances are `|x|² − 2 x·c + |c|²`, one matrix product. A new centre can only bring points nearer,
so what is known of a point stays an upper bound and points are measured anew only while their bound exceeds
the farthest point found: the picks are those of the eager form, and most points are read once or twice
in all (Minoux's accelerated greedy, 1978, used on distances). In the worst case all are read at each pick, in
order, as the eager form does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
BLOCK = 8192
"""Points that are in memory as float32 at once."""
_CENTERS = 256  # labelled points measured against at once
_FIRST_BATCH = 512  # points measured anew at first; doubled while that does not suffice
_WHOLE = 8  # read in order instead of one by one when more than 1 / _WHOLE of the points are wanted


@dataclass(frozen=True)
class Cover:
    """The chosen points, in the order of choice."""

    rows: Rows
    """(k,)"""
    distances: Floats
    """(k,): to the nearest centre when it was chosen; infinite for a first one without any centre."""
    measured: int
    """How many distances were computed, in multiples of one point to one centre."""


def k_center(
    points: NDArray[Any],
    budget: int,
    centers: Sequence[int] | Rows = (),
    candidates: NDArray[np.bool_] | None = None,
    admit: Callable[[int], bool] = lambda row: True,
    closed_by: Callable[[int], Rows] = lambda row: np.zeros(0, np.int64),
) -> Cover:
    """Choose up to `budget` of `points`, the farthest from all centres each time; ties go to the first.

    `points` is (n, d), float16 or float32, in memory or memory-mapped, all finite where they are candidates
    or centres; `centers` are the rows that count as chosen from the start (the labelled ones); `candidates`,
    bool (n,), says which rows may be chosen (default: all). `admit(row)` is asked before a row is taken; one
    refused is never asked for again, nor are the rows `closed_by(row)` one that was taken (the rest of its
    sequence). Without centres the first choice is the point nearest to the mean.
    """
    farthest = FarthestFirst(points, centers, candidates)
    rows: list[int] = []
    distances: list[float] = []
    while len(rows) < budget and (found := farthest.next()) is not None:
        row, distance = found
        farthest.dismiss(row)
        if admit(row):
            farthest.add(row)
            farthest.dismiss(closed_by(row))
            rows.append(row)
            distances.append(distance)
    return Cover(np.array(rows, np.int64), np.array(distances, np.float32), farthest.measured)


class FarthestFirst:
    """Distances of many points to a growing set of centres, known no better than needed."""

    def __init__(
        self,
        points: NDArray[Any],
        centers: Sequence[int] | Rows = (),
        candidates: NDArray[np.bool_] | None = None,
    ) -> None:
        self._points = points
        # Measured from amid the points: |x|² − 2 x·c + |c|² cancels where they lie far from the origin.
        self._origin = _centre_of(_float32(points[:BLOCK]))
        count = len(points)
        self._squares = np.zeros(count, np.float32)
        self._bounds = np.full(count, np.inf, np.float32)
        self._seen = np.zeros(count, np.int32)
        self._centers: list[Floats] = []
        self.measured = 0
        given = np.asarray(centers, dtype=np.int64)
        self._measure_all(self._centred(points[given]))
        excluded = np.zeros(count, bool) if candidates is None else ~candidates
        excluded[given] = True
        self._bounds[excluded] = -np.inf
        self._without_centers = given.size == 0

    def next(self) -> tuple[int, float] | None:
        """The candidate farthest from all centres and its distance; None when none is left."""
        if len(self._bounds) == 0:
            return None
        if self._without_centers:
            return self._nearest_to_mean()
        top = int(self._bounds.argmax())
        if self._bounds[top] == -np.inf:
            return None
        self._refresh(np.array([top]))
        self._refresh_rivals(float(self._bounds[top]))
        top = int(self._bounds.argmax())
        return top, math.sqrt(float(self._bounds[top]))

    def add(self, row: int) -> None:
        """Take a row for a centre from now on."""
        self._centers.append(self._centred(self._points[row]))
        self._without_centers = False

    def dismiss(self, rows: int | Rows) -> None:
        """These rows are no candidates any more."""
        self._bounds[rows] = -np.inf

    def _refresh_rivals(self, floor: float) -> None:
        """Measure anew every candidate that might be farther than `floor`, most promising first."""
        batch = _FIRST_BATCH
        while True:
            stale = np.flatnonzero((self._bounds >= floor) & (self._seen < len(self._centers)))
            if stale.size == 0:
                return
            if stale.size > batch:
                order = np.argpartition(self._bounds[stale], stale.size - batch)
                stale = np.sort(stale[order[-batch:]])
            if stale.size * _WHOLE > len(self._bounds):
                for start in range(0, len(stale), BLOCK):
                    self._refresh(stale[start : start + BLOCK])
            else:
                self._refresh(stale)
            floor = max(floor, float(self._bounds[stale].max()))
            batch *= 2

    def _refresh(self, rows: Rows) -> None:
        first = int(self._seen[rows].min())
        if first == len(self._centers):
            return
        centers = np.stack(self._centers[first:])
        near = self._distances(self._centred(_gathered(self._points, rows)), self._squares[rows], centers)
        self._bounds[rows] = np.minimum(self._bounds[rows], near)
        self._seen[rows] = len(self._centers)

    def _measure_all(self, centers: Floats) -> None:
        """One pass over all points: their squares, and the distance to what is labelled."""
        for start, block in blocks(self._points):
            inside = slice(start, start + len(block))
            block = self._centred(block)
            self._squares[inside] = np.einsum("ij,ij->i", block, block)
            for left in range(0, len(centers), _CENTERS):
                some = centers[left : left + _CENTERS]
                near = self._distances(block, self._squares[inside], some)
                self._bounds[inside] = np.minimum(self._bounds[inside], near)

    def _distances(self, points: Floats, squares: Floats, centers: Floats) -> Floats:
        """Squared, of each point to the nearest of `centers`: (m, d), (m,), (k, d) → (m,)."""
        self.measured += len(points) * len(centers)
        near: Floats
        if len(centers) == 1:
            products = points @ centers[0]
            near = squares - 2 * products + np.float32(centers[0] @ centers[0])
        else:
            own = np.einsum("ij,ij->i", centers, centers)
            near = squares + (own - 2 * (points @ centers.T)).min(axis=1)
        np.maximum(near, np.float32(0), out=near)
        return near

    def _centred(self, points: NDArray[Any]) -> Floats:
        centred: Floats = _float32(points) - self._origin
        return centred

    def _nearest_to_mean(self) -> tuple[int, float] | None:
        candidates = self._bounds > 0
        if not candidates.any():
            return None
        total = np.zeros(self._points.shape[1], np.float64)
        for start, block in blocks(self._points):
            total += block[candidates[start : start + len(block)]].sum(axis=0, dtype=np.float64)
        mean = self._centred(total / candidates.sum())
        offsets = np.concatenate([self._centred(block) @ mean for _, block in blocks(self._points)])
        distances = np.where(candidates, self._squares - 2 * offsets, np.inf)
        return int(distances.argmin()), math.inf


def blocks(points: NDArray[Any], size: int = BLOCK) -> Iterator[tuple[int, Floats]]:
    """`points` (n, d) as float32, `size` rows at a time, each with the number of its first row."""
    for start in range(0, len(points), size):
        yield start, _float32(points[start : start + size])


def _gathered(points: NDArray[Any], rows: Rows) -> NDArray[Any]:
    """Rows in ascending order; neighbours are not copied one by one."""
    if rows.size > 1 and int(rows[-1]) - int(rows[0]) + 1 == rows.size:
        return points[int(rows[0]) : int(rows[-1]) + 1]
    return points[rows]


def _centre_of(points: Floats) -> Floats:
    """Mean of the finite values of each column; 0 where there are none."""
    finite = np.isfinite(points)
    total = np.where(finite, points, np.float32(0)).sum(axis=0)
    centre: Floats = total / np.maximum(finite.sum(axis=0), 1).astype(np.float32)
    return centre


def _float32(values: NDArray[Any]) -> Floats:
    return np.asarray(values, dtype=np.float32)
