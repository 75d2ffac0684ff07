"""Masks as labs keep them, all read to one thing: class indices, 255 = ignore.

* `index`: palette or grey PNG, pixel value = class index
* `color`: RGB(A), grey or palette PNG, a colour for each class
* `binary`: one PNG for each class, anything brighter than half = that class
* `json`: regions in exports of Label Studio, see `training.data.exports`

`auto` takes palette and grey masks as indices unless that cannot be: where a value stands for no class, or
where a palette holds the classes' own colours in another order (as image editors leave it), colours count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from training.data.classes_file import ClassList, Color
from training.data.manifest import IGNORE_INDEX
from training.data.masks import BadMask, read_mask
from training.data.micrograph import BadImage, Limits, image_format, image_size

MaskFormat = Literal["auto", "index", "color", "binary", "json"]
_PLACES = 3
_SHOWN = 8
_GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


@dataclass(frozen=True)
class Unknown:
    """Pixels whose value or colour stands for no class."""

    value: str
    """`#12ab00`, or `7` in an index mask."""
    pixels: int
    places: tuple[tuple[int, int], ...]
    """The first of them: (x, y) in px."""


@dataclass(frozen=True)
class DecodedMask:
    """A mask, and what in it could not be understood."""

    mask: NDArray[np.uint8]
    """(H, W): class index, 255 = ignore; 255 too where the value is unknown."""
    unknown: tuple[Unknown, ...] = ()
    """The most frequent first, at most eight."""
    unknown_pixels: int = 0
    overlapping: int = 0
    """Pixels that several binary masks claim; the class with the highest index has them."""
    read_as: MaskFormat = "index"
    note: str = ""
    """What may be wrong though it can be read."""


def decode_mask(
    path: Path, classes: ClassList, read_as: MaskFormat = "auto", tolerance: float = 0.0
) -> DecodedMask:
    """The mask in one file, `index`, `color`, or whichever it is (`auto`).

    `tolerance`: Euclidean distance in RGB (0 to 442) within which a colour counts as the nearest class's; 0
    for exact. Raises `BadMask` when the file cannot be read.
    """
    if read_as == "binary":
        raise BadMask(f"{path} alone is no mask of one PNG per class; give all of them.")
    if read_as == "json":
        raise BadMask(f"{path} is no export of Label Studio; read it with --mask-format auto.")
    if read_as == "index":
        return _from_indices(read_mask(path), classes)
    pixels, palette = _pixels(path)
    if pixels.ndim == 3:
        decode = _from_colors if read_as == "color" else _auto_color
        return decode(pixels, classes, tolerance)
    if read_as == "color":
        return _from_palette(pixels, _GREYS if palette is None else palette, classes, tolerance)
    return _auto_index(pixels, palette, classes, tolerance)


def decode_binary_masks(paths: Mapping[str, Path], classes: ClassList) -> DecodedMask:
    """The mask made of one PNG for each class: `paths` by class name, `ignore` for what to leave out.

    Where none speaks it is class 0. Raises `BadMask` when a file cannot be read, sizes differ, or a name is
    no class.
    """
    names = [info.name for info in classes.classes]
    mask: NDArray[np.uint8] | None = None
    claims: NDArray[np.uint8] | None = None
    for name, path in sorted(paths.items(), key=lambda item: _rank(item[0], names, item[1])):
        inside = _inside(path)
        if mask is None or claims is None:
            mask, claims = np.zeros(inside.shape, np.uint8), np.zeros(inside.shape, np.uint8)
        if inside.shape != mask.shape:
            raise BadMask(
                f"The mask {path} is {inside.shape[1]} × {inside.shape[0]} px, those of other classes are "
                f"{mask.shape[1]} × {mask.shape[0]} px; save all at the size of the image."
            )
        mask[inside] = IGNORE_INDEX if name == "ignore" else names.index(name)
        claims += inside & (name != "ignore")
    if mask is None or claims is None:
        raise BadMask("There is no binary mask to read.")
    return DecodedMask(mask, overlapping=int(np.count_nonzero(claims > 1)), read_as="binary")


def _rank(name: str, names: Sequence[str], path: Path) -> int:
    if name == "ignore":
        return len(names)
    if name not in names:
        raise BadMask(
            f"The mask {path} is for {name!r}, which is no class; the classes are {', '.join(names)}."
        )
    return names.index(name)


def _inside(path: Path) -> NDArray[np.bool_]:
    pixels, palette = _pixels(path)
    if palette is not None or pixels.ndim == 3:
        pixels = (pixels if palette is None else palette[pixels]).max(axis=2)
    brightest = int(pixels.max(initial=0))
    half = 1 if brightest <= 1 else 128  # 0/1 and 0/255 alike; strokes may be anti-aliased
    inside: NDArray[np.bool_] = pixels >= half
    return inside


def _auto_color(pixels: NDArray[np.uint8], classes: ClassList, tolerance: float) -> DecodedMask:
    decoded = _from_colors(pixels, classes, tolerance)
    if decoded.unknown and (pixels == pixels[..., :1]).all():
        indices = _from_indices(pixels[..., 0], classes)
        return decoded if indices.unknown else indices
    return decoded


def _auto_index(
    pixels: NDArray[np.uint8],
    palette: NDArray[np.uint8] | None,
    classes: ClassList,
    tolerance: float,
) -> DecodedMask:
    indices = _from_indices(pixels, classes)
    colors = _from_palette(pixels, _GREYS if palette is None else palette, classes, tolerance)
    if indices.unknown:
        return indices if colors.unknown else colors
    spoken = pixels != IGNORE_INDEX
    if palette is not None and not colors.unknown and (colors.mask[spoken] != indices.mask[spoken]).any():
        return colors
    if palette is None and set(np.unique(pixels).tolist()) == {0, IGNORE_INDEX}:
        note = (
            "it holds only 0 and 255, and 255 means ignore; if white stands for a class, read it with "
            "--mask-format color (white given as that class's colour) or --mask-format binary "
            "(named <image>_<class>.png)."
        )
        return DecodedMask(indices.mask, read_as="index", note=note)
    return indices


def _from_indices(values: NDArray[np.uint8], classes: ClassList) -> DecodedMask:
    table = np.full(256, IGNORE_INDEX, np.uint8)
    table[: len(classes.classes)] = np.arange(len(classes.classes), dtype=np.uint8)
    counts = np.bincount(values.ravel(), minlength=256)
    known = {*range(len(classes.classes)), IGNORE_INDEX, classes.ignore_index}
    strays = sorted((v for v in np.flatnonzero(counts).tolist() if v not in known), key=lambda v: -counts[v])
    unknown = tuple(Unknown(str(v), int(counts[v]), _places(values == v)) for v in strays[:_SHOWN])
    return DecodedMask(table[values], unknown, int(sum(counts[v] for v in strays)))


def _from_colors(pixels: NDArray[np.uint8], classes: ClassList, tolerance: float) -> DecodedMask:
    """`pixels` uint8 (H, W, 3). Exact colours first: to sort all pixels by colour is slow."""
    packed = _packed(pixels)
    mask = np.full(packed.shape, IGNORE_INDEX, np.uint8)
    open_ = np.ones(packed.shape, np.bool_)
    for (red, green, blue), target in _targets(classes):
        here = open_ & (packed == (red << 16 | green << 8 | blue))
        mask[here] = target
        open_ &= ~here
    distinct, inverse, counts = np.unique(packed[open_], return_inverse=True, return_counts=True)
    indices = _nearest(distinct, classes, tolerance)
    mask[open_] = np.where(indices < 0, IGNORE_INDEX, indices).astype(np.uint8)[inverse]
    strays = np.flatnonzero(indices < 0)
    ordered = strays[np.argsort(-counts[strays], kind="stable")]
    unknown = tuple(
        Unknown(f"#{distinct[place]:06x}", int(counts[place]), _places(packed == distinct[place]))
        for place in ordered[:_SHOWN].tolist()
    )
    return DecodedMask(mask, unknown, int(counts[strays].sum()), read_as="color")


def _from_palette(
    values: NDArray[np.uint8], palette: NDArray[np.uint8], classes: ClassList, tolerance: float
) -> DecodedMask:
    """`values` uint8 (H, W) with the colours (256, 3) they stand for."""
    colors = _packed(palette)
    indices = _nearest(colors, classes, tolerance)
    counts = np.bincount(values.ravel(), minlength=256)
    strays = sorted(np.flatnonzero((counts > 0) & (indices < 0)).tolist(), key=lambda value: -counts[value])
    unknown = tuple(
        Unknown(f"#{colors[value]:06x}", int(counts[value]), _places(values == value))
        for value in strays[:_SHOWN]
    )
    table = np.where(indices < 0, IGNORE_INDEX, indices).astype(np.uint8)
    return DecodedMask(table[values], unknown, int(sum(counts[strays])), read_as="color")


def _targets(classes: ClassList) -> list[tuple[Color, int]]:
    """Every colour that means something, with the value it becomes; classes before ignore."""
    targets = [(color, index) for index, color in enumerate(classes.colors)]
    if classes.ignore_color is not None:
        targets.append((classes.ignore_color, IGNORE_INDEX))
    return targets


def _nearest(distinct: NDArray[np.int64], classes: ClassList, tolerance: float) -> NDArray[np.int64]:
    """Class index of each packed colour, 255 for the colour of ignore, -1 for none within `tolerance`."""
    # One class at a time, so that a photograph taken for a mask does not fill the memory with its colours.
    channels = [(distinct >> shift) & 255 for shift in (16, 8, 0)]
    best = np.full(distinct.shape, np.iinfo(np.int64).max)
    found = np.full(distinct.shape, -1)
    for color, target in _targets(classes):
        squares = [(channel - value) ** 2 for channel, value in zip(channels, color, strict=True)]
        distance: NDArray[np.int64] = squares[0] + squares[1] + squares[2]
        closer = (distance < best) & (distance <= tolerance**2)
        best[closer], found[closer] = distance[closer], target
    return found


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    packed: NDArray[np.int64] = red << 16 | green << 8 | blue
    return packed


def _places(where: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    flat = np.flatnonzero(where)[:_PLACES]
    return tuple((int(place % where.shape[1]), int(place // where.shape[1])) for place in flat)


def _pixels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Values (H, W) with the palette (256, 3) if there is one, or colours (H, W, 3), transparent = black."""
    try:
        if image_format(path) != "png":
            raise BadMask(f"{path} is not a PNG; save masks as PNG, other formats change their colours.")
        Limits().check(str(path), path.stat().st_size, image_size(path))
    except BadImage as error:
        raise BadMask(f"The mask cannot be read: {error}") from None
    try:
        with PngImageFile(path) as image:
            if image.mode in ("RGB", "RGBA", "LA"):
                rgba = np.asarray(image.convert("RGBA"))
                return np.where(rgba[..., 3:] == 0, 0, rgba[..., :3]).astype(np.uint8), None
            palette = image.getpalette("RGB") if image.mode == "P" else None
    except (SyntaxError, OSError, ValueError) as error:
        raise BadMask(f"The mask {path} is damaged or cut short ({error}); write it again.") from None
    values: NDArray[np.uint8] = read_mask(path)
    if palette is None:
        return values, None
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette) // 3] = np.reshape(palette[: len(palette) // 3 * 3], (-1, 3))
    return values, table
