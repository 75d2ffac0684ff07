"""Changes of grey values: what is set by hand at the microscope, and where its detector sits.

Contrast and brightness change between days, operators and detectors, so they are varied strongly. All frames
of a stack get the same change: they were taken in one session. Stacks are float32 (D, H, W).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augmentation.config import Augmentation
from training.simulator.texture import smooth_noise

Floats = NDArray[np.float32]
_MID_GREY = np.float32(0.5)
_COARSE = 24  # px: what is smooth across a picture is computed so small, and enlarged


def contrast(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Another gain, about mid grey."""
    gain = np.float32(1 + rng.uniform(-config.contrast, config.contrast))
    return stack * gain + (1 - gain) * _MID_GREY


def brightness(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Another offset."""
    return stack + np.float32(rng.uniform(-config.brightness, config.brightness))


def gamma(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Another exponent; what is outside [0, 1] is saturated first."""
    strongest = np.log(1 - config.gamma)
    exponent = float(np.exp(rng.uniform(strongest, -strongest)))
    saturated = np.clip(stack, 0, 1)
    return np.asarray(cv2.pow(saturated.reshape(-1), exponent), np.float32).reshape(stack.shape)


def shading(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """A detector on one side: a smooth factor about 1 across the picture."""
    rows, columns = stack.shape[1:]
    amount = np.float32(rng.uniform(0, config.shading))
    field = np.clip(smooth_noise((_COARSE, _COARSE), _COARSE / 1.5, rng), -2, 2) / 2
    factor = cv2.resize(1 + amount * field, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return stack * np.asarray(factor, np.float32)


def inversion(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Bright and dark change places, as between secondary and backscattered electrons."""
    return 1 - stack
