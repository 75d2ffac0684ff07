"""Raw intensities → network input, the same way in training and in serving. numpy only.

How intensities are normalised decides more about a micrograph model than its architecture: contrast
and brightness are set by hand at the microscope, so that equal materials come with unequal grey
values. The default stretches each image to its own percentile range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Normalisation
from model_zoo.errors import SRPUError
from model_zoo.info_bar import info_bar_height

Normaliser = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Raw intensities of any shape → float32 of that shape."""

_SAMPLE = 4_000_000  # values of a float image that its percentiles are estimated from
_CHUNK = 2**24  # pixels counted at once: np.bincount widens each to 8 bytes
_MID_GREY = 0.5  # what a constant image becomes: it has no range to be stretched to


class BadIntensities(SRPUError):
    """An array that cannot be an image: wrong shape, or values that are no intensities."""


def normalise(stack: NDArray[Any], how: Normalisation) -> NDArray[np.float32]:
    """Scale to [0, 1], clip, subtract `how.mean`, divide by `how.std`.

    `stack` is (D, H, W): uint8, uint16 or another unsigned integer, bool, or floating point. Returns
    a new float32 array of that shape. `percentile` maps the range between the two percentiles of the
    *whole stack* to [0, 1]: frames share one range, so that their differences in brightness survive,
    which is what a stack is for; an info bar does not count, unless `how` keeps it. `range` divides
    integers by their dtype's maximum and takes floats as being in [0, 1] already. NaN and -inf become
    the darkest value, +inf the brightest; a constant image becomes mid grey. Raises `BadIntensities`.
    """
    return normaliser(stack, how)(stack)


def normaliser(stack: NDArray[Any], how: Normalisation) -> Normaliser:
    """What `normalise` does to `stack`, to be done to parts of it: memory for a part is all it takes.

    Raises `BadIntensities`.
    """
    if stack.ndim != 3 or stack.size == 0:
        raise BadIntensities(f"An image stack must be (frames, height, width); this one is {stack.shape}.")
    if stack.dtype == np.bool_:
        of_bytes = normaliser(stack.view(np.uint8) * np.uint8(255), how)
        return lambda part: of_bytes(part.view(np.uint8) * np.uint8(255))
    if stack.dtype.kind == "u" and stack.dtype.itemsize <= 2:
        table = _table_of_counts(stack, how)
        return lambda part: np.take(table, part)
    if stack.dtype.kind not in "uif":
        raise BadIntensities(f"Intensities must be integers or floats; this image holds {stack.dtype}.")
    low, high = _range(stack, how)
    return lambda part: _normalise_values(part, low, high, how)


def picture(stack: NDArray[Any], how: Normalisation) -> NDArray[Any]:
    """The part of a stack (D, H, W) that is no info bar: a view of its upper rows; all of them to be kept."""
    bar = 0 if how.info_bar == "keep" else info_bar_height(stack[stack.shape[0] // 2])
    return stack[:, : stack.shape[1] - bar]


def _table_of_counts(stack: NDArray[Any], how: Normalisation) -> NDArray[np.float32]:
    """uint8 and uint16: percentiles from the histogram, the mapping as a table of all levels."""
    levels = int(np.iinfo(stack.dtype).max) + 1
    if how.kind == "range":
        low, high = 0.0, float(levels - 1)
    else:
        low, high = _range_of_histogram(_histogram(picture(stack, how), levels), how)
    return _standardised(np.arange(levels, dtype=np.float64), low, high, how)


def _histogram(stack: NDArray[Any], levels: int) -> NDArray[np.int64]:
    flat = stack.reshape(-1)
    counts = np.zeros(levels, dtype=np.int64)
    for start in range(0, flat.size, _CHUNK):
        counts += np.bincount(flat[start : start + _CHUNK], minlength=levels)
    return counts


def _range_of_histogram(counts: NDArray[np.int64], how: Normalisation) -> tuple[float, float]:
    cumulative = np.cumsum(counts)
    ranks = np.ceil(np.array([how.low, how.high]) / 100 * cumulative[-1])
    low, high = np.searchsorted(cumulative, np.maximum(ranks, 1))
    if low < high:
        return float(low), float(high)
    present = np.flatnonzero(counts)  # a few bright specks on an even ground: take all there is
    return float(present[0]), float(present[-1])


def _range(stack: NDArray[Any], how: Normalisation) -> tuple[float, float]:
    """Of floats and wide or signed integers: what becomes 0 and 1."""
    if how.kind == "range":
        return 0.0, float(np.iinfo(stack.dtype).max) if stack.dtype.kind in "ui" else 1.0
    return _range_of_values(stack, how)


def _normalise_values(part: NDArray[Any], low: float, high: float, how: Normalisation) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # values near the end of float64 become 0 or 1
        return _standardised(part, low, high, how)


def _range_of_values(stack: NDArray[Any], how: Normalisation) -> tuple[float, float]:
    flat = stack.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = (float(value) for value in np.percentile(sample, [how.low, how.high]))
    return (low, high) if low < high else (float(sample.min()), float(sample.max()))


def _standardised(values: NDArray[Any], low: float, high: float, how: Normalisation) -> NDArray[np.float32]:
    if not low < high:
        return np.full(values.shape, (_MID_GREY - how.mean) / how.std, dtype=np.float32)
    # Clip first, lest the extremes overflow; centre in float64, lest 1e9 ± 1 lose its digits.
    precise = np.clip(values, low, high, dtype=np.float64)
    precise -= low
    precise /= high - low
    scaled: NDArray[np.float32] = precise.astype(np.float32)
    np.nan_to_num(scaled, copy=False, nan=0.0)
    scaled -= np.float32(how.mean)
    scaled /= np.float32(how.std)
    return scaled
