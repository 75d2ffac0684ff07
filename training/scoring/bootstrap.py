"""How sure a score is: the bootstrap over groups. Pure and seeded, numpy only.

Images of one group (a sequence, a specimen) are alike, so groups are what is drawn with replacement, not
images (cluster bootstrap: Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
Two models scored with the same seed are scored on the same draws: a paired comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Frozen

Drawn = NDArray[np.float64]

RESAMPLES = 2000
_CONFIDENCE = 0.95
_BLOCK = 1 << 22
"""Numbers drawn at a time: 32 MiB, however many groups there are."""


class Interval(Frozen):
    """The 95 % interval of the draws (2.5th to 97.5th percentile)."""

    low: float
    high: float


def units(groups: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """What is to be drawn: the unit of each image, int64 (images,), and the number of *groups*.

    A unit is a group, or an image where all images are of one group: draws of a single unit would all be
    equal and any difference, however small, certain.
    """
    names, unit = np.unique(list(groups), return_inverse=True)
    if len(names) == 1:
        unit = np.arange(len(groups))
    return unit.astype(np.int64), len(names)


def sum_units(counts: NDArray[np.int64], unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of each unit: (images, …) → int64 (units, …)."""
    number = int(unit.max()) + 1 if unit.size else 0
    summed = np.zeros((number, *counts.shape[1:]), dtype=np.int64)
    np.add.at(summed, unit, counts)
    return summed


def resample(counts: NDArray[np.int64], resamples: int, seed: int) -> Drawn:
    """As many units as there are, drawn with replacement and summed: (units, …) → (resamples, …).

    Without a unit, every draw is zero.
    """
    number = len(counts)
    if not number:
        return np.zeros((resamples, *counts.shape[1:]))
    flat = counts.reshape(number, -1).astype(np.float64)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, flat.shape[1]))
    block = max(1, _BLOCK // number)
    for start in range(0, resamples, block):
        drawn = rng.multinomial(number, np.full(number, 1 / number), size=min(block, resamples - start))
        sums[start : start + block] = drawn.astype(np.float64) @ flat
    return sums.reshape(resamples, *counts.shape[1:])


def interval(values: Drawn) -> Interval | None:
    """Of one score in every draw: (resamples,); draws without the score (NaN) don't count."""
    finite = values[~np.isnan(values)]
    if finite.size == 0:
        return None
    low, high = np.quantile(finite, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Interval(low=float(low), high=float(high))
