"""Masks on disk: index PNGs whose pixel value is the class index, 255 = ignore."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor
from PIL.Image import Image, fromarray
from PIL.PngImagePlugin import PngImageFile

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from training.data.manifest import IGNORE_INDEX
from training.data.micrograph import Array, BadImage, Limits, image_format, image_size

_IGNORE_COLOR = (255, 255, 255)
_PNG_GREY, _PNG_BIT_DEPTH_AT, _PNG_COLOR_TYPE_AT = 0, 24, 25


class BadMask(SRPUError):
    """A file that is no index mask, or a mask that cannot be written as one."""


def read_mask(path: Path, limits: Limits | None = None) -> Array:
    """The mask in an index PNG: uint8 `(H, W)`, pixel = class index, 255 = ignore.

    Palette and grey PNGs of any bit depth are taken as indices, colour ones only where R = G = B. Raises
    `BadMask` for anything else; bounds are checked before decoding.
    """
    try:
        if image_format(path) != "png":
            raise BadMask(f"{path} is not a PNG; save masks as PNG, pixel value = class index.")
        (limits or Limits()).check(str(path), path.stat().st_size, image_size(path))
        data = path.read_bytes()
    except BadImage as error:
        raise BadMask(f"The mask cannot be read: {error}") from None
    return _indices(data, path)


def _indices(data: bytes, path: Path) -> Array:
    try:
        with PngImageFile(io.BytesIO(data)) as image:
            image.load()
            values = _values(image, data, path)
    except (SyntaxError, OSError, ValueError) as error:
        raise BadMask(f"The mask {path} is damaged or cut short ({error}); write it again.") from None
    if values.size and int(values.max()) > IGNORE_INDEX:
        raise BadMask(
            f"The mask {path} holds the value {int(values.max())}; indices go from 0 to 254, 255 = ignore."
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def _values(image: Image, data: bytes, path: Path) -> Array:
    if image.mode == "P" or image.mode.startswith("I"):
        return np.asarray(image)
    if image.mode in ("1", "L"):
        return _unscaled(np.asarray(image), data)
    if image.mode in ("LA", "RGB", "RGBA"):
        channels = np.asarray(image)
        colors, alpha = (channels, None) if image.mode == "RGB" else (channels[..., :-1], channels[..., -1])
        if (colors == colors[..., :1]).all() and (alpha is None or (alpha == 255).all()):
            return colors[..., 0]
    raise BadMask(
        f"The mask {path} is a colour image ({image.mode}), whose colours are not class indices; "
        "save it as a palette or grey PNG with pixel value = class index."
    )


def _unscaled(values: Array, data: bytes) -> Array:
    """Pillow stretches grey of 2 and 4 bits to 0…255; an index must come back as it was written."""
    depth = data[_PNG_BIT_DEPTH_AT]
    if data[_PNG_COLOR_TYPE_AT] == _PNG_GREY and depth in (2, 4):
        values = values // np.uint8(255 // (2**depth - 1))
    return values


def write_mask(path: Path, mask: Array, classes: Sequence[ClassInfo]) -> None:
    """Write `mask`, integer `(H, W)` of indices into `classes` or 255, as palette PNG in their colours.

    The same mask and classes give the same bytes. The file appears whole or not at all. Raises `BadMask` when
    a value stands for no class or the array is no mask.
    """
    image = fromarray(_checked(mask, len(classes), path))
    image.putpalette(_palette(classes))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6, bits=8)
    write_atomically(path, buffer.getvalue())


def _checked(mask: Array, classes: int, path: Path) -> Array:
    if mask.ndim != 2 or not mask.size or not (np.issubdtype(mask.dtype, np.integer) or mask.dtype == bool):
        raise BadMask(
            f"The mask for {path} must be a two-dimensional array of integers, not {mask.dtype} {mask.shape}."
        )
    strays = mask[((mask < 0) | (mask >= classes)) & (mask != IGNORE_INDEX)]
    if strays.size:
        raise BadMask(
            f"The mask for {path} holds the value {int(strays[0])}, but there are {classes} classes: "
            f"0 to {classes - 1}, and 255 for ignore."
        )
    return mask.astype(np.uint8)


def _palette(classes: Sequence[ClassInfo]) -> list[int]:
    """256 RGB triples; what no class claims is grey, ignore is white."""
    colors = [(index, index, index) for index in range(256)]
    for index, info in enumerate(classes[:IGNORE_INDEX]):
        colors[index] = _rgb(info.color) or colors[index]
    colors[IGNORE_INDEX] = _IGNORE_COLOR
    return [channel for color in colors for channel in color]


def _rgb(color: str) -> tuple[int, int, int] | None:
    """None for a CSS colour Pillow does not know: a wrong tint must not cost the mask."""
    try:
        red, green, blue = ImageColor.getrgb(color)[:3]
    except ValueError:
        return None
    return red, green, blue
