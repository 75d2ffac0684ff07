"""Random changes of a crop that leave its truth true: orientation, contrast, noise, focus.

Contrast and brightness are set by hand at the microscope and change between days and detectors, so they
are varied strongly. Counting noise is drawn from the Gaussian limit of Poisson's law (variance proportional
to intensity): Poisson numbers themselves take longer to draw than all the other changes together.
"""

from __future__ import annotations

from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from training.augmentation.config import Augmentation

_SMALLEST_BLUR = 0.3  # px; below it a Gaussian is the identity


class Augmenter:
    """Changes crops as `config` says; the same seed makes the same change."""

    def __init__(self, config: Augmentation) -> None:
        self._config = config
        self._changes = A.Compose(list(_transforms(config)) if config.enabled else [])

    def __call__(
        self, image: NDArray[np.float32], truth: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Change (D, H, W) in [0, 1] and its (H, W) truth alike; square, contiguous, and in [0, 1] again.

        All frames of a stack get the same change, but noise of their own.
        """
        if not self._config.enabled:
            return image, truth
        self._changes.set_random_seed(seed)
        changed = self._changes(image=np.ascontiguousarray(image.transpose(1, 2, 0)), mask=truth)
        rng = np.random.default_rng(seed)
        frames = np.ascontiguousarray(changed["image"].transpose(2, 0, 1))
        return _with_noise(frames, self._config, rng), np.ascontiguousarray(changed["mask"])


def _transforms(config: Augmentation) -> list[Any]:
    strongest_gamma = 1 - config.gamma
    transforms: list[Any] = [A.SquareSymmetry(p=1.0)] if config.orientation else []
    transforms.append(
        A.RandomBrightnessContrast(
            brightness_limit=config.brightness, contrast_limit=config.contrast, p=config.probability
        )
    )
    transforms.append(
        A.RandomGamma(gamma_limit=(100 * strongest_gamma, 100 / strongest_gamma), p=config.probability)
    )
    if config.blur > _SMALLEST_BLUR:
        transforms.append(
            A.GaussianBlur(sigma_limit=(_SMALLEST_BLUR, config.blur), blur_limit=0, p=config.probability)
        )
    return transforms


def _with_noise(
    image: NDArray[np.float32], config: Augmentation, rng: np.random.Generator
) -> NDArray[np.float32]:
    variance = np.zeros_like(image)
    if rng.random() < config.probability:
        variance += np.float32(rng.uniform(0, config.shot_noise) ** 2) * image
    if rng.random() < config.probability:
        variance += np.float32(rng.uniform(0, config.noise) ** 2)
    if not variance.any():
        return image
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + np.sqrt(variance) * noise, 0.0, 1.0)
