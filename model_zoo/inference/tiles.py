"""A large image in bounded memory: overlapping tiles, blended with a Gaussian.

Each tile's probabilities are weighted by a Gaussian around its centre and averaged, so that the
border of a tile, where the network sees least, hardly counts (as in nnU-Net, Isensee et al. 2021,
Nature Methods 18:203). Probabilities are blended rather than logits: one tile's extreme logits
cannot outvote its neighbours, and the mean of probabilities is a probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError

Logits = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Tiles (N, D, h, w), cut from the stack, to (N, C, h, w)."""
_LEAST_WEIGHT = 1e-3  # of the centre's: keeps the division stable where a single tile reaches


class BadImageStack(SRPUError):
    """Frames that do not fit the model: wrong number, or no pixels."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut. All in px."""

    tile: int
    """Longest side of a tile; a multiple of `stride`."""
    overlap: int
    """Two neighbours share at least this much."""
    stride: int
    """Sides of what the network is fed are multiples of this."""
    whole: int
    """Images of no more pixels than this are fed at once."""

    @classmethod
    def of(cls, tile: int, stride: int) -> Tiling:
        """Overlap of an eighth, at least 64 px; whole up to four tiles' area, which costs 1 GB at 512."""
        tile = _up_to_multiple(tile, stride)
        return cls(tile, min(max(tile // 8, 64), tile // 2), stride, 4 * tile * tile)


@dataclass(frozen=True)
class Band:
    """Rows of an image that are answered."""

    rows: slice
    probabilities: NDArray[np.float32]
    """(C, rows, W)."""


def probabilities(
    stack: NDArray[Any], classes: int, logits: Logits, tiling: Tiling, batch: int = 1
) -> NDArray[np.float32]:
    """(D, H, W) as `logits` takes it → (C, H, W), non-negative, summing to 1 over C."""
    found = np.empty((classes, *stack.shape[1:]), dtype=np.float32)
    for band in bands(stack, classes, logits, tiling, batch):
        found[:, band.rows] = band.probabilities
    return found


def bands(
    stack: NDArray[Any], classes: int, logits: Logits, tiling: Tiling, batch: int = 1
) -> Iterator[Band]:
    """The same from top to bottom, in bands of rows that no further tile reaches.

    Held at a time are one row of tiles, 4 (C + 1) × tile × W bytes, and `batch` tiles: never the whole image.
    """
    height, width = stack.shape[1:]
    sides = [_up_to_multiple(side, tiling.stride) for side in (height, width)]
    if sides[0] * sides[1] > tiling.whole:
        sides = [_side(length, tiling) for length in (height, width)]
    windows = list(_windows(stack.shape[1:], sides, tiling.overlap))
    if len(windows) == 1:
        answer = softmax(logits(_cut(stack, *windows[0], sides)[None])[0])
        yield Band(slice(0, height), answer[:, :height, :width])
        return
    blend = _Blend(classes, sides, width)
    for top, left, answer in _answers(stack, windows, sides, logits, batch):
        if top > blend.top:
            yield blend.finish(top)
        blend.add(left, softmax(answer))
    yield blend.finish(height)


class _Blend:
    """Weighted sums over the rows of the tiles in work, `top` and those below."""

    def __init__(self, classes: int, sides: list[int], width: int) -> None:
        self.top = 0
        self._weight = np.outer(_gaussian(sides[0]), _gaussian(sides[1]))
        self._total = np.zeros((classes, sides[0], width), dtype=np.float32)
        self._weights = np.zeros((sides[0], width), dtype=np.float32)

    def add(self, left: int, answer: NDArray[np.float32]) -> None:
        """Add a tile's probabilities (C, h, w) whose top is at `top`."""
        columns = slice(left, left + answer.shape[2])
        inside = self._weight[:, : self._weights[:, columns].shape[1]]
        self._total[..., columns] += answer[..., : inside.shape[1]] * inside
        self._weights[:, columns] += inside

    def finish(self, top: int) -> Band:
        """The rows above `top`, and go on with those from there."""
        count = top - self.top
        found = Band(slice(self.top, top), self._total[:, :count] / self._weights[:count])
        for sums in (self._total, self._weights):
            rest = max(0, sums.shape[-2] - count)
            sums[..., :rest, :] = sums[..., count:, :].copy()
            sums[..., rest:, :] = 0
        self.top = top
        return found


def _answers(
    stack: NDArray[Any], windows: list[tuple[int, int]], sides: list[int], logits: Logits, batch: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Top, left and logits of each window, in order."""
    remaining = iter(windows)
    while some := list(islice(remaining, batch)):
        answers = logits(np.stack([_cut(stack, top, left, sides) for top, left in some]))
        for (top, left), answer in zip(some, answers, strict=True):
            yield top, left, answer


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the first axis, in a new array."""
    shifted: NDArray[np.float32] = logits - logits.max(axis=0)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=0)
    return shifted


def _windows(shape: tuple[int, ...], sides: list[int], overlap: int) -> Iterator[tuple[int, int]]:
    """Top left corners, evenly spread, the last ones ending at the image's border."""
    tops, lefts = (_starts(length, side, overlap) for length, side in zip(shape, sides, strict=True))
    for top in tops:
        for left in lefts:
            yield top, left


def _side(length: int, tiling: Tiling) -> int:
    """The shortest side with which as many tiles as are needed anyway still overlap enough."""
    count = _count(length, tiling.tile, tiling.overlap)
    return min(
        tiling.tile, _up_to_multiple(-(-(length + (count - 1) * tiling.overlap) // count), tiling.stride)
    )


def _starts(length: int, side: int, overlap: int) -> list[int]:
    count = _count(length, side, overlap)
    return [int(start) for start in np.linspace(0, max(0, length - side), count).round()]


def _count(length: int, side: int, overlap: int) -> int:
    return 1 if length <= side else -(-(length - overlap) // (side - overlap))


def _cut(stack: NDArray[Any], top: int, left: int, sides: list[int]) -> NDArray[Any]:
    """One window, continued by reflection beyond the image's right and bottom border."""
    window = stack[:, top : top + sides[0], left : left + sides[1]]
    missing = [(0, 0)] + [
        (0, side - there) for side, there in zip(sides, window.shape[1:], strict=True)
    ]  # np.pad reflects as often as it takes, and repeats a single pixel
    return np.pad(window, missing, mode="reflect") if any(after for _, after in missing) else window


def _gaussian(side: int) -> NDArray[np.float32]:
    offsets = np.arange(side, dtype=np.float32) - (side - 1) / 2
    weights: NDArray[np.float32] = np.exp(-0.5 * (offsets / (side / 8)) ** 2)
    return np.maximum(weights, np.float32(_LEAST_WEIGHT))


def _up_to_multiple(length: int, of: int) -> int:
    return -(-length // of) * of
