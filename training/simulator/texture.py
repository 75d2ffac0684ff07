"""Smooth random fields: contamination, polishing marks, bent boundaries, uneven brightness."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian field of mean 0 and about unit variance, correlated over `scale` px; float32 (H, W)."""
    height, width = shape
    coarse = rng.standard_normal((int(height / scale) + 4, int(width / scale) + 4), np.float32)
    size = (int(coarse.shape[1] * scale) + 1, int(coarse.shape[0] * scale) + 1)
    fine = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    top, left = int(1.5 * scale), int(1.5 * scale)
    return np.ascontiguousarray(fine[top : top + height, left : left + width] * np.float32(1.3))


def rough_noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Three octaves of `smooth_noise` with falling amplitude; float32 (H, W)."""
    octaves = [amplitude * smooth_noise(shape, scale, rng) for scale, amplitude in _OCTAVES]
    return np.asarray(np.sum(octaves, axis=0), np.float32)


_OCTAVES = ((24.0, 0.6), (8.0, 0.5), (3.0, 0.4))
