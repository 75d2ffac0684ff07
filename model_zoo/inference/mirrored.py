"""Test-time augmentation: an image and its mirror images, answered alike and averaged.

A micrograph has no up and no left, so a network should answer all four alike; where it does not, their mean
is a little better than any (Moshkov et al., Test-time augmentation for deep learning-based cell segmentation
on microscopy images, 2020). Four times the work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model_zoo.inference.engines import Engine
from model_zoo.inference.tiles import softmax

_AXES: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_LEAST = 1e-30  # float32 has smaller ones, but their logarithm means nothing


class Mirrored:
    """An engine that asks another four times."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.batch = engine.batch

    def logits(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D, H, W) → logarithms of the mean probabilities (N, C, H, W)."""
        answers = (self._probabilities(tiles, axes) for axes in _AXES)
        total = next(answers)
        for answer in answers:
            total += answer
        total /= len(_AXES)
        np.maximum(total, _LEAST, out=total)
        return np.asarray(np.log(total), np.float32)

    def _probabilities(self, tiles: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
        """Of the mirrored tiles, mirrored back."""
        answer = self._engine.logits(np.ascontiguousarray(np.flip(tiles, axes)))
        return np.stack([softmax(each) for each in np.flip(answer, axes)])
