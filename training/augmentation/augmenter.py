"""Random changes of a crop that leave its truth true, in the order in which a microscope makes them.

The specimen is bent and scanned (`geometry`), seen by one detector or another (`inversion`) through a beam
(`focus`), disturbed by charge and stripes (`artefacts`), unevenly lit, counted (`noise`), amplified
(`intensity`), changed by what `library` was asked for, and turned. Each change draws its random numbers from
the seed and its own name: switching one off leaves the others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.augmentation import artefacts, focus, geometry, intensity, noise
from training.augmentation.config import Augmentation
from training.augmentation.library import LibraryTransform

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]
Change = Callable[[Floats, Augmentation, np.random.Generator], Floats]

CHANGES: dict[str, Change] = {
    "inversion": intensity.inversion,
    "blur": focus.blur,
    "defocus": focus.defocus,
    "charging": artefacts.charging,
    "curtaining": artefacts.curtaining,
    "shading": intensity.shading,
    "shot_noise": noise.shot_noise,
    "noise": noise.noise,
    "contrast": intensity.contrast,
    "brightness": intensity.brightness,
    "gamma": intensity.gamma,
}
"""Changes of intensities, in order; each is named as its strength and its probability are."""


class Augmenter:
    """Changes crops as `config` says; the same seed makes the same change."""

    def __init__(self, config: Augmentation) -> None:
        self._config = config
        self._chances = {
            name: chance for name in ("elastic", "drift", *CHANGES) if (chance := config.chance(name)) > 0
        }
        self._turn = geometry.Turn()
        more = config.more if config.enabled and config.probability > 0 else {}
        self._more = [LibraryTransform(name, arguments) for name, arguments in more.items()]

    def __call__(self, image: Floats, truth: Mask, seed: int) -> tuple[Floats, Mask]:
        """Change (D, H, W) in [0, 1] and its (H, W) truth alike: contiguous, and in [0, 1] again.

        Frames of a stack are moved and toned alike; noise, charge and stripes are each frame's own. Sides are
        swapped by a quarter turn. Magnification and copy-paste need more than the crop: the stream of crops
        does them before (`training.data.dataset`).
        """
        if not self._config.enabled:
            return image, truth
        happening = {name: rng for name in self._chances if (rng := self._drawn(name, seed)) is not None}
        stack, truth = self._moved(image, truth, happening)
        for name, change in CHANGES.items():
            if name in happening:
                stack = change(stack, self._config, happening[name])
        if stack is not image:
            stack = np.clip(stack, 0, 1, out=stack)
        for transform in self._more:
            stack, truth = transform(stack, truth, _generator(transform.name, seed))
        if self._config.orientation:
            stack, truth = self._turn(stack, truth, _generator("orientation", seed))
        return stack, truth

    def _drawn(self, name: str, seed: int) -> np.random.Generator | None:
        """Random numbers for a change that happens."""
        rng = _generator(name, seed)
        return rng if rng.random() < self._chances[name] else None

    def _moved(
        self, image: Floats, truth: Mask, happening: dict[str, np.random.Generator]
    ) -> tuple[Floats, Mask]:
        """Bend and drift in one go: intensities are interpolated once."""
        if not {"elastic", "drift"} & happening.keys():
            return image, truth
        shape = (truth.shape[0], truth.shape[1])
        along_x: Floats = np.zeros((1, 1), np.float32)
        along_y: Floats = along_x
        if "elastic" in happening:
            along_x, along_y = geometry.elastic(shape, self._config, happening["elastic"])
        if "drift" in happening:
            along_x = np.add(along_x, geometry.drift(shape, self._config, happening["drift"]))
        return geometry.displaced(image, truth, along_x, along_y)


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
