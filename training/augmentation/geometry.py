"""Changes of place: what bends the specimen, shifts its lines, or turns the picture. The mask moves along.

Intensities are interpolated, classes are not: a pixel of the mask takes the class of the place that its
intensity came from, and is ignored where that lies outside the crop.
"""

from __future__ import annotations

import math
from random import Random

import cv2
import numpy as np
from albumentations import SquareSymmetry
from numpy.typing import NDArray

from training.augmentation.config import Augmentation
from training.data.manifest import IGNORE_INDEX
from training.simulator.artefacts import shake
from training.simulator.texture import smooth_noise

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]
_STEPS = 8  # a deformation is computed at so many places over its scale, and enlarged
_DRIFT_ROWS = 48.0  # px over which a stage drifts one way
_VIBRATION = 0.15  # share of the drift that changes from line to line


def elastic(shape: tuple[int, int], config: Augmentation, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Smooth random displacements in px along x and y, float32 (H, W) each (Simard et al., ICDAR 2003)."""
    amount = rng.uniform(0, config.elastic) / 2
    step = max(1, int(config.elastic_scale / _STEPS))
    coarse = (math.ceil(shape[0] / step), math.ceil(shape[1] / step))
    along_x, along_y = (
        cv2.resize(amount * smooth_noise(coarse, config.elastic_scale / step, rng), shape[::-1]) for _ in "xy"
    )
    return np.asarray(along_x, np.float32), np.asarray(along_y, np.float32)


def drift(shape: tuple[int, int], config: Augmentation, rng: np.random.Generator) -> Floats:
    """Sideways displacement of each scan line in px: float32 (H, 1)."""
    rows = shape[0]
    slow = smooth_noise((rows, 1), _DRIFT_ROWS, rng)
    shift = rng.uniform(0, config.drift) / 2 * (slow + _VIBRATION * shake(rows, rng))
    return np.asarray(shift, np.float32)


def displaced(stack: Floats, truth: Mask, along_x: Floats, along_y: Floats) -> tuple[Floats, Mask]:
    """Take each pixel of (D, H, W) and (H, W) from so many px further on; mirrored or ignored outside."""
    rows, columns = truth.shape
    x = np.ascontiguousarray(np.broadcast_to(np.arange(columns, dtype=np.float32) + along_x, truth.shape))
    y = np.ascontiguousarray(
        np.broadcast_to(np.arange(rows, dtype=np.float32)[:, None] + along_y, truth.shape)
    )
    frames = [cv2.remap(f, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101) for f in stack]
    moved = cv2.remap(
        truth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE_INDEX
    )
    return np.stack(frames), np.asarray(moved, np.uint8)


class Turn:
    """The eight flips and quarter turns, each equally likely: albumentations' `SquareSymmetry`."""

    def __init__(self) -> None:
        self._symmetry = SquareSymmetry(p=1)
        self._unused = Random(0)  # noqa: S311  (it draws from numpy's generator alone)

    def __call__(self, stack: Floats, truth: Mask, rng: np.random.Generator) -> tuple[Floats, Mask]:
        """Turn (D, H, W) and (H, W) alike: contiguous; a quarter turn swaps the sides."""
        self._symmetry.set_random_state(rng, self._unused)
        first = self._symmetry(image=stack[0], mask=truth)
        how = self._symmetry.get_applied_params()
        # One by one: as channels of one image, frames take thrice as long.
        others = [self._symmetry.apply_with_params(how, image=frame)["image"] for frame in stack[1:]]
        return np.stack([first["image"], *others]), np.ascontiguousarray(first["mask"])
