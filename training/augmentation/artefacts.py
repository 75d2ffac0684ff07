"""Artefacts of charge and of ion beams, for each frame of a stack anew; the physics is the simulator's."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augmentation.config import Augmentation
from training.simulator import artefacts

Floats = NDArray[np.float32]
_BRIGHT = 1.0  # standard deviations above the mean, from where on a place is taken to charge
_SPOT = 2.0  # px; smaller specks are noise, and do not charge


def charging(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """What is bright blooms and darkens what the scan line meets next, as if it did not conduct."""
    strength = rng.uniform(0, config.charging)
    return np.stack([frame + artefacts.charging(_bright(frame), strength, rng) for frame in stack])


def curtaining(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Stripes across the scan lines, as a focused ion beam leaves them below what is hard."""
    amplitude = rng.uniform(0, config.curtaining)
    size = (stack.shape[1], stack.shape[2])
    return np.stack([frame * artefacts.curtains(size, amplitude, rng) for frame in stack])


def _bright(frame: Floats) -> Floats:
    """What would charge: 0 at `_BRIGHT` standard deviations above the mean, 1 two deviations higher."""
    smooth = cv2.GaussianBlur(frame, (0, 0), _SPOT)
    mean, deviation = float(smooth.mean()), float(smooth.std())
    excess = (smooth - mean) / max(deviation, 1e-3) - _BRIGHT
    return np.asarray(np.clip(excess / 2, 0, 1), np.float32)
