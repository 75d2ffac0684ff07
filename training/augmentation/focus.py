"""Changes of sharpness: the beam is wide, uneven, or out of focus. One point spread function for a stack."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augmentation.config import Augmentation

Floats = NDArray[np.float32]
_SHARP = 0.3  # px; a narrower beam leaves the picture as it is
_REACH = 2.5  # standard deviations that a kernel holds


def blur(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """A Gaussian beam, wider along one direction than across it where there is astigmatism."""
    sigma = rng.uniform(0, config.blur)
    ratio = math.sqrt(1 + rng.uniform(0, config.astigmatism))
    angle = rng.uniform(0, math.pi)
    if sigma < _SHARP:
        return stack
    return _convolved(stack, gaussian(sigma * ratio, sigma / ratio, angle))


def defocus(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """A point becomes a disk: the probe out of focus."""
    radius = rng.uniform(0, config.defocus)
    return stack if radius < 2 * _SHARP else _convolved(stack, disk(radius))


def gaussian(along: float, across: float, angle: float) -> Floats:
    """Kernel of sum 1 with standard deviations (px) along and across the direction `angle`; (K, K), K odd."""
    reach = math.ceil(_REACH * along)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def disk(radius: float) -> Floats:
    """Kernel of sum 1, even within `radius` px, its rim smoothed over one px; (K, K), K odd."""
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _convolved(stack: Floats, kernel: Floats) -> Floats:
    frames = [cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for frame in stack]
    return np.stack(frames)
