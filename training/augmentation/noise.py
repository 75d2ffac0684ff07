"""Noise, drawn for each frame of a stack anew.

Counting noise is drawn from the Gaussian limit of Poisson's law (variance proportional to intensity): Poisson
numbers themselves take longer to draw than all the other changes together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.augmentation.config import Augmentation

Floats = NDArray[np.float32]


def shot_noise(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Of counting electrons: its deviation grows with the root of the intensity."""
    deviation = np.float32(rng.uniform(0, config.shot_noise))
    spread: Floats = np.sqrt(np.maximum(stack, 0))
    return stack + deviation * spread * rng.standard_normal(stack.shape, dtype=np.float32)


def noise(stack: Floats, config: Augmentation, rng: np.random.Generator) -> Floats:
    """Of the electronics: the same everywhere."""
    deviation = np.float32(rng.uniform(0, config.noise))
    return stack + deviation * rng.standard_normal(stack.shape, dtype=np.float32)
