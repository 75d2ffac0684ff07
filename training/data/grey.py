"""Any pixels to 8- or 16-bit grey: pure functions of arrays and of decoded Pillow images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

Array = npt.NDArray[Any]
_LUMA = (19595, 38470, 7471)
"""BT.601 luma in 1/65536, as Pillow has it: the weights add up to one, so grey stays what it was."""
_ROWS = 256
"""Rows converted at a time, so that wide temporaries stay small beside the image."""


def grey_of(pixels: Array) -> Array:
    """uint8 or uint16 `(H, W)` of grey `(H, W)` or `(H, W, 1…4)` pixels of any number type.

    Two channels are grey and alpha, four are RGB and alpha. Raises `ValueError` for other shapes and types.
    """
    if pixels.ndim == 2:
        return _unsigned(pixels)
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
        raise ValueError(f"its pixels are {pixels.shape}, neither grey nor colour")
    channels = _unsigned(pixels)
    grey = np.empty(channels.shape[:2], channels.dtype)
    for start in range(0, grey.shape[0], _ROWS):
        grey[start : start + _ROWS] = _luma_over_black(channels[start : start + _ROWS])
    return grey


def grey_of_pillow(image: Image) -> Array:
    """`grey_of` for an image Pillow has opened; decodes it."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    elif image.mode in ("PA", "La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return grey_of(np.asarray(image))


def _luma_over_black(channels: Array) -> Array:
    top = int(np.iinfo(channels.dtype).max)
    wide = channels.astype(np.uint32)
    if channels.shape[2] < 3:
        grey = wide[..., 0]
    else:
        red, green, blue = (wide[..., index] * np.uint32(weight) for index, weight in enumerate(_LUMA))
        grey = (red + green + blue + np.uint32(0x8000)) >> np.uint32(16)
    if channels.shape[2] in (2, 4):
        alpha = wide[..., -1]
        grey = (grey * alpha + np.uint32(top // 2)) // np.uint32(top)
    return grey.astype(channels.dtype)


def _unsigned(pixels: Array) -> Array:
    """uint8 or uint16 of the same shape, in native byte order and contiguous."""
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind == "u" and size <= 2:
        return np.ascontiguousarray(pixels, dtype=np.uint8 if size == 1 else np.uint16)
    if kind == "i" and size <= 2:  # ImageJ's signed 16 bit: frames of one sequence stay comparable
        shifted = pixels.astype(np.int32) + (1 << (8 * size - 1))
        return shifted.astype(np.uint8 if size == 1 else np.uint16)
    if kind in "uif":
        return _stretched(pixels)
    raise ValueError(f"its numbers are {pixels.dtype}, which is no intensity")


def _stretched(pixels: Array) -> Array:
    """Finite minimum → 0, finite maximum → 65535; NaN is 0, infinities are the ends."""
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    scale = 1.0 / (high - low) if high > low and np.isfinite(high - low) else 0.0
    out = np.empty(pixels.shape, np.uint16)
    for start in range(0, pixels.shape[0], _ROWS):
        rows = pixels[start : start + _ROWS].astype(np.float64)
        rows = np.nan_to_num(rows, nan=low, posinf=high, neginf=low)
        out[start : start + _ROWS] = np.rint((rows - low) * scale * 65535.0)
    return out
