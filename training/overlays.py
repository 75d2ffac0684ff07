"""Class maps drawn over micrographs, for people to look at. numpy and OpenCV only.

A class that stands for nothing in particular is left clear, so that the micrograph itself is seen: an
implicit one, one named background, and one whose colour is black, as class files mark the matrix. Ignored
pixels (255) are hatched. Everything returned is uint8 RGB of the image's height and width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import BACKGROUND_NAMES, ClassInfo
from training.data.classes_file import BadClasses, Color, rgb
from training.data.manifest import IGNORE_INDEX

Picture = NDArray[np.uint8]

MISSED: Color = (0, 114, 178)
FALSE_ALARM: Color = (230, 159, 0)
MIXED_UP: Color = (204, 61, 154)
"""Colours of `error_map`."""

# Okabe & Ito, Color Universal Design, 2008: told apart by colour-blind eyes too.
_TINTS: tuple[Color, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)
_DISPLAY_PERCENTILES = (0.1, 99.9)
_HATCH_PERIOD, _HATCH_WIDTH = 8, 2
_DIMMED = 0.55


def overlay(
    image: NDArray[Any],
    class_map: NDArray[np.uint8],
    classes: Sequence[ClassInfo],
    opacity: float = 0.4,
    rim: int = 0,
) -> Picture:
    """The image with each pixel tinted in its class's colour: uint8 RGB (H, W, 3).

    `image` is grey uint8 or uint16 (H, W), `class_map` uint8 (H, W) of indices into `classes`, or 255;
    `opacity` in [0, 1] is how much of the tint is seen, `rim` how many px of a region's rim are full of it.
    Raises `ValueError` where the shapes differ or an
    index stands for no class.
    """
    _check(image, class_map, len(classes))
    share = np.zeros(IGNORE_INDEX + 1, dtype=np.float32)
    share[: len(classes)] = np.where(clear_classes(classes), 0.0, opacity)
    tints = np.zeros((IGNORE_INDEX + 1, 3), dtype=np.float32)
    tints[: len(classes)] = class_colors(classes)
    weight = share[class_map][..., None]
    picture = _rounded(display_grey(image)[..., None] * (1 - weight) + tints[class_map] * weight)
    _draw_rims(picture, class_map, classes, rim)
    return _hatched(picture, class_map == IGNORE_INDEX)


def outlines(
    image: NDArray[Any], class_map: NDArray[np.uint8], classes: Sequence[ClassInfo], width: int = 2
) -> Picture:
    """The image with the rim of every region in its class's colour, `width` px inwards: uint8 RGB (H, W, 3).

    Arguments as for `overlay`. The image's own border is no rim.
    """
    _check(image, class_map, len(classes))
    picture = np.repeat(display_grey(image)[..., None], 3, axis=2)
    _draw_rims(picture, class_map, classes, width)
    return _hatched(picture, class_map == IGNORE_INDEX)


def error_map(
    image: NDArray[Any],
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    classes: Sequence[ClassInfo],
) -> Picture:
    """What is wrong in `predicted`, over the dimmed image: uint8 RGB (H, W, 3).

    Blue (`MISSED`) where the truth is a class and the prediction a clear one, orange (`FALSE_ALARM`) the
    other way round, magenta (`MIXED_UP`) where one class is taken for another. Arguments as for `overlay`;
    where the truth is 255 nothing is wrong, and the picture hatched.
    """
    _check(image, truth, len(classes))
    _check(image, predicted, len(classes))
    clear = np.zeros(IGNORE_INDEX + 1, dtype=bool)
    clear[: len(classes)] = clear_classes(classes)
    wrong = (truth != predicted) & (truth != IGNORE_INDEX)
    grey = display_grey(image).astype(np.float32)
    picture = np.repeat(_rounded(255 - _DIMMED * (255 - grey))[..., None], 3, axis=2)
    picture[wrong] = MIXED_UP
    picture[wrong & clear[predicted] & ~clear[truth]] = MISSED
    picture[wrong & clear[truth] & ~clear[predicted]] = FALSE_ALARM
    return _hatched(picture, truth == IGNORE_INDEX)


def class_colors(classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """RGB of each class: uint8 (C, 3); a colour that is unknown or used twice is replaced."""
    asked = [_rgb(info.color) for info in classes]
    uses = Counter(asked)
    colors = [
        color if color is not None and uses[color] == 1 else _TINTS[index % len(_TINTS)]
        for index, color in enumerate(asked)
    ]
    return np.array(colors, dtype=np.uint8).reshape(-1, 3)


def clear_classes(classes: Sequence[ClassInfo]) -> NDArray[np.bool_]:
    """Which classes are left clear in pictures: bool (C,)."""
    clear = [
        info.implicit or info.name.casefold() in BACKGROUND_NAMES or _rgb(info.color) == (0, 0, 0)
        for info in classes
    ]
    return np.array(clear, dtype=bool)


def display_grey(image: NDArray[Any]) -> Picture:
    """Grey of 8 or 16 bits as 8 bits for the screen: (H, W), its 0.1–99.9 percentile range stretched."""
    low, high = np.percentile(image, _DISPLAY_PERCENTILES)
    if high <= low:
        low, high = 0.0, float(np.iinfo(image.dtype).max)
    return _rounded((image.astype(np.float32) - low) * (255 / (high - low)))


def _draw_rims(
    picture: Picture, class_map: NDArray[np.uint8], classes: Sequence[ClassInfo], width: int
) -> None:
    for index, (color, clear) in enumerate(zip(class_colors(classes), clear_classes(classes), strict=True)):
        if width and not clear:
            picture[_rim(class_map == index, width)] = color


def _rim(region: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    inner = cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=width)
    rim: NDArray[np.bool_] = region & (inner == 0)
    return rim


def _hatched(picture: Picture, where: NDArray[np.bool_]) -> Picture:
    if where.any():
        rows, columns = np.indices(where.shape, sparse=True)
        stripes = where & ((rows + columns) % _HATCH_PERIOD < _HATCH_WIDTH)
        picture[stripes] = 160
    return picture


def _rounded(values: NDArray[Any]) -> Picture:
    rounded: Picture = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded


def _rgb(color: str) -> Color | None:
    """None for a colour nobody knows: a wrong tint must not cost the picture."""
    try:
        return rgb(color)
    except BadClasses:
        return None


def _check(image: NDArray[Any], class_map: NDArray[np.uint8], classes: int) -> None:
    if image.shape != class_map.shape or image.ndim != 2:
        raise ValueError(f"The image is {image.shape}, the class map {class_map.shape}; both must be (H, W).")
    strays = class_map[(class_map >= classes) & (class_map != IGNORE_INDEX)]
    if strays.size:
        raise ValueError(f"The class map holds {int(strays.max())}; there are {classes} classes.")
