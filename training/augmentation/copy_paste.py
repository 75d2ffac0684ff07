"""Bodies of rare classes, put where they are not: more of what a training image shows too little of.

After Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method, CVPR 2021. A body is a connected
component of a rare class. It keeps its outline, its size in px and its contrast to what surrounds it, and is
put only where its ground, the more frequent class around it, is all there is: a precipitate of the channels
is not found inside a grain. The mask says exactly what is covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augmentation.config import Augmentation
from training.data.manifest import IGNORE_INDEX

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

FEATHER = 4
"""Width in px of the rim over which a body's surroundings fade into those of its new place."""
SMALLEST = 9
"""Fewest pixels of a body: less is a slip of the pen."""
_TRIES = 8  # places looked at before a body is given up


class Source(Protocol):
    """An image that bodies may be taken from."""

    @property
    def pixels(self) -> NDArray[np.uint16]:
        """(D, H, W), 0 … 65535."""

    @property
    def truth(self) -> Mask:
        """(H, W), 255 = ignore."""


@dataclass(frozen=True)
class Body:
    """Where a component of a rare class lies: its bounding box in px, in image number `image`."""

    image: int
    class_index: int
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Cutout:
    """A body with `FEATHER` px around it."""

    pixels: Floats
    """(D, h, w) in [0, 1]."""
    shape: NDArray[np.bool_]
    """(h, w): the body itself."""
    opacity: Floats
    """(h, w): 1 on the body, falling to 0 at the border; 0 on its neighbours."""
    ground: int
    """The class around the body."""


class CopyPaste:
    """Puts bodies of rare classes of `images` into crops; `counts` are the pixels of each class in all."""

    def __init__(
        self, images: Sequence[Source], counts: NDArray[np.int64], config: Augmentation, largest: int
    ) -> None:
        """Look for bodies of at most `largest` px along either side, where they are wanted at all."""
        self._images = images
        self._counts = counts
        self._config = config
        self.chance = config.chance("copy_paste")
        rare = _rare_classes(counts, config.copy_paste_share) if self.chance else []
        self.bodies = {index: found for index in rare if (found := _bodies_of(images, index, largest))}
        """By class: what there is to be pasted."""

    def __call__(
        self, pixels: Floats, truth: Mask, home: Source, rng: np.random.Generator
    ) -> tuple[Floats, Mask]:
        """Put up to `config.copy_paste` bodies into (D, H, W) in [0, 1] and (H, W), cut from `home`.

        Bodies come from other images where there are any; one that finds no place is left out.
        """
        if not self.bodies or rng.random() >= self.chance:
            return pixels, truth
        pixels, truth = pixels.copy(), truth.copy()
        for _ in range(int(rng.integers(1, self._config.copy_paste + 1))):
            class_index = list(self.bodies)[rng.integers(len(self.bodies))]
            body = self._choose(class_index, home, rng)
            cutout = _turned(_cut(self._images[body.image], body), rng)
            place = _place(cutout, truth, rng)
            if place is not None and self._counts[cutout.ground] > self._counts[class_index]:
                _blend(pixels, truth, cutout, place, class_index)
        return pixels, truth

    def _choose(self, class_index: int, home: Source, rng: np.random.Generator) -> Body:
        bodies = self.bodies[class_index]
        elsewhere = [body for body in bodies if self._images[body.image] is not home] or bodies
        return elsewhere[rng.integers(len(elsewhere))]


def _place(cutout: Cutout, truth: Mask, rng: np.random.Generator) -> tuple[int, int] | None:
    """(top, left) where nothing but the body's ground would be covered; None: not found."""
    height, width = cutout.shape.shape
    room = truth.shape[0] - height, truth.shape[1] - width
    if min(room) < 0:
        return None
    covered = cutout.opacity > 0
    for _ in range(_TRIES):
        top, left = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
        if (truth[top : top + height, left : left + width][covered] == cutout.ground).all():
            return top, left
    return None


def _rare_classes(counts: NDArray[np.int64], share: float) -> list[int]:
    """Those that occur, but in less than `share` of the labelled pixels; never the most frequent one."""
    below = (counts > 0) & (counts < share * counts.sum())
    return [int(index) for index in np.flatnonzero(below) if index != counts.argmax()]


def _bodies_of(images: Sequence[Source], class_index: int, largest: int) -> list[Body]:
    bodies = []
    for number, image in enumerate(images):
        mask = np.equal(image.truth, class_index).view(np.uint8)
        _, _, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for left, top, width, height, area in boxes[1:].tolist():
            whole = min(left, top) > 0 and left + width < mask.shape[1] and top + height < mask.shape[0]
            if whole and area >= SMALLEST and max(width, height) <= largest:
                bodies.append(Body(number, class_index, top, left, height, width))
    return bodies


def _cut(image: Source, body: Body) -> Cutout:
    """The body and its ground, but not its neighbours: no trace of them is to be taken along."""
    rows = slice(max(body.top - FEATHER, 0), body.top + body.height + FEATHER)
    columns = slice(max(body.left - FEATHER, 0), body.left + body.width + FEATHER)
    truth = np.asarray(image.truth[rows, columns])
    shape = _largest_component(truth == body.class_index)
    distance = cv2.distanceTransform((~shape).view(np.uint8), cv2.DIST_L2, 3)
    around = truth[(distance < FEATHER) & (truth != body.class_index) & (truth != IGNORE_INDEX)]
    ground = int(np.bincount(around, minlength=1).argmax()) if around.size else body.class_index
    opacity = np.where(shape | (truth == ground), np.clip(1 - distance / FEATHER, 0, 1), 0)
    opacity[(truth == body.class_index) & ~shape] = 0
    pixels = image.pixels[:, rows, columns].astype(np.float32) / np.float32(np.iinfo(np.uint16).max)
    return Cutout(pixels, shape, np.asarray(opacity, np.float32), ground)


def _largest_component(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The one with the largest bounding box: neighbours reach into a body's box, but do not fill it."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=8)
    extents = boxes[1:, cv2.CC_STAT_WIDTH] * boxes[1:, cv2.CC_STAT_HEIGHT]
    largest: NDArray[np.bool_] = labels == 1 + int(extents.argmax())
    return largest


def _turned(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    quarters, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels = np.rot90(cutout.pixels, quarters, axes=(1, 2))
    shape, opacity = np.rot90(cutout.shape, quarters), np.rot90(cutout.opacity, quarters)
    step = -1 if flip else 1
    return Cutout(pixels[..., ::step], shape[:, ::step], opacity[:, ::step], cutout.ground)


def _blend(pixels: Floats, truth: Mask, cutout: Cutout, place: tuple[int, int], class_index: int) -> None:
    """Put it there, as bright against its new surroundings as it was against the old; in place."""
    rows = slice(place[0], place[0] + cutout.shape.shape[0])
    columns = slice(place[1], place[1] + cutout.shape.shape[1])
    target = pixels[:, rows, columns]
    rim = (cutout.opacity > 0) & ~cutout.shape
    shift = target[:, rim].mean(axis=1) - cutout.pixels[:, rim].mean(axis=1) if rim.any() else np.zeros(1)
    moved = cutout.pixels + shift[:, None, None].astype(np.float32)
    pixels[:, rows, columns] = np.clip(target + cutout.opacity * (moved - target), 0, 1)
    truth[rows, columns][cutout.shape] = class_index
