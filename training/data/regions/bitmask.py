"""Bitmask regions: a PNG of the image's size in a data URL, foreground where alpha is not zero."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from training.data.regions.errors import BadRegion

_PREFIX = "data:image/png;base64,"
_SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
_MOST_BYTES_PER_PIXEL = 8
_CHUNKS_BESIDE_PIXELS = 2**16
_BROKEN = (
    OSError,
    SyntaxError,  # what Pillow raises for a malformed header
    ValueError,
    EOFError,
    LookupError,  # … and what it lets through when a chunk is shorter than it should be
    TypeError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""How a decoder says that the bytes are not what their header promised."""


def encode(mask: NDArray[Any]) -> str:
    """Data URL of a mask (H, W), bool or integer: black and opaque where it is not zero, as the editor's."""
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., 3] = np.where(mask, 255, 0)
    # Run lengths pack masks tighter than deflate's quick levels do, in the same time.
    _, png = cv2.imencode(".png", rgba, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])
    return _PREFIX + base64.b64encode(png.tobytes()).decode()


def decode(url: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Foreground (H, W) of a bitmask region on an image of `shape` (height, width).

    A PNG without transparency, which the editor never writes, is taken as white on black: foreground is what
    is not black. Raises `BadRegion` for another size, told from the header before anything is decoded, or for
    something that is no whole PNG.
    """
    png = _png(url, shape)
    try:
        with PngImageFile(io.BytesIO(png)) as image:
            if image.size != shape[::-1]:  # a second header, which takes the place of the one we checked
                raise BadRegion("its PNG has two headers.")
            image.load()
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                return np.asarray(image.convert("RGBA").getchannel("A")) > 0
            grey = image if image.mode.startswith("I") else image.convert("L")
            return np.asarray(grey) > 0
    except _BROKEN as error:
        raise BadRegion(f"its PNG is damaged or cut short ({error}).") from None


def _png(url: str, shape: tuple[int, int]) -> bytes:
    """The PNG's bytes, its size checked."""
    if not isinstance(url, str) or not url.startswith(_PREFIX):
        raise BadRegion(f"its imageDataURL must start with {_PREFIX!r}.")
    height, width = shape
    most = _MOST_BYTES_PER_PIXEL * height * width + height + _CHUNKS_BESIDE_PIXELS
    if len(url) - len(_PREFIX) > most * 4 // 3 + 4:
        raise BadRegion("its PNG is larger than any mask of this size.")
    try:
        png = base64.b64decode(url[len(_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise BadRegion("its imageDataURL is no base64.") from None
    if not png.startswith(_SIGNATURE) or len(png) < 33:
        raise BadRegion("its imageDataURL holds no PNG.")
    size = struct.unpack_from(">II", png, 16)
    if size != (width, height):
        raise BadRegion(f"its PNG is {size[0]} × {size[1]} px, but the image {width} × {height} px.")
    return png
