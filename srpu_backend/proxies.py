"""What a browser shows in place of an image that it cannot show, or not well: an 8-bit PNG of equal size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.micrograph import BadImage, Limits, image_format, read_micrograph

SATURATED = 0.35
"""Per cent of the pixels that may become black or white, as ImageJ's "Enhance contrast" does by default."""
_SHOWN_BY_BROWSERS = ("png", "jpeg", "bmp")


def proxy_of(path: Path, limits: Limits | None = None) -> bytes | None:
    """PNG to show in place of the image at `path`; None when browsers show that image as it is.

    Reads all of the image, so that a damaged one is found here. Raises `BadImage`.
    """
    pixels = read_micrograph(path, limits)
    if image_format(path) in _SHOWN_BY_BROWSERS and pixels.dtype == np.uint8:
        return None
    done, png = cv2.imencode(".png", stretched(pixels))
    if not done:
        raise BadImage(f"{path} cannot be written as PNG; is it of a sensible size?")
    return png.tobytes()


def stretched(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Grey (H, W) uint8 or uint16 → uint8; 8 bit stays as it is.

    16 bit is stretched linearly between the percentiles that saturate `SATURATED` per cent of the pixels, for
    most microscopes fill a small part of the range.
    """
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    low, high = np.percentile(pixels, (SATURATED / 2, 100 - SATURATED / 2))
    if high <= low:  # nearly all pixels are alike
        low, high = float(pixels.min()), float(pixels.max())
    scale = 255.0 / max(high - low, 1.0)
    levels = np.arange(np.iinfo(np.uint16).max + 1, dtype=np.float32)
    table: NDArray[np.uint8] = np.clip((levels - low) * scale + 0.5, 0, 255).astype(np.uint8)
    return table[pixels]
