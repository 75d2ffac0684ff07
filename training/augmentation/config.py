"""The settings of the augmentation: how strong each change may be, and how often it happens."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator, model_validator

from training.settings_block import SettingsBlock, setting


def _probability(default: float | None, typical: str) -> float | None:
    chance: float | None = setting(default, typical, ge=0, le=1)
    return chance


class Probabilities(SettingsBlock):
    """How often each change happens to a crop; unset: `augmentation.probability`."""

    contrast: float | None = _probability(None, "0.3 to 0.8")
    """Gain."""
    brightness: float | None = _probability(None, "0.3 to 0.8")
    """Offset."""
    gamma: float | None = _probability(None, "0.3 to 0.8")
    """Exponent."""
    shading: float | None = _probability(0.25, "0.1 to 0.3")
    """Uneven illumination."""
    inversion: float | None = _probability(0.0, "0 to 0.1, where both kinds of detector are used")
    """Bright and dark change places, as between secondary and backscattered electrons."""
    noise: float | None = _probability(None, "0.3 to 0.8")
    """Of the electronics."""
    shot_noise: float | None = _probability(None, "0.3 to 0.8")
    """Of counting electrons."""
    blur: float | None = _probability(0.3, "0.2 to 0.5")
    """A wide beam."""
    defocus: float | None = _probability(0.1, "0.05 to 0.2")
    """A beam out of focus."""
    charging: float | None = _probability(0.1, "0.05 to 0.3")
    """Halos and streaks."""
    curtaining: float | None = _probability(0.1, "0 where no ion beam is used, else 0.1 to 0.3")
    """Stripes of an ion beam."""
    drift: float | None = _probability(0.15, "0.1 to 0.3")
    """Lines out of place."""
    elastic: float | None = _probability(0.2, "0.1 to 0.5")
    """Bent shapes."""
    copy_paste: float | None = _probability(0.3, "0.2 to 0.5")
    """Bodies of rare classes from elsewhere."""


class Augmentation(SettingsBlock):
    """Random changes of each crop. Intensities are in [0, 1], after normalisation of the whole image.

    A strength is the largest; what a crop gets is drawn evenly from 0 (or −strength) on. 0 switches a change
    off, and so does its probability of 0.
    """

    enabled: bool = True
    """False: crops as they are."""
    orientation: bool = True
    """Flips and quarter turns, all eight equally likely."""
    scale: tuple[float, float] = (0.7, 1.4)
    """Range of the magnification a crop is taken at; 1 = as recorded."""
    contrast: float = setting(0.4, "0.2 to 0.5", ge=0, lt=1)
    """Largest relative change of contrast, about mid grey."""
    brightness: float = setting(0.2, "0.1 to 0.3", ge=0, lt=1)
    """Largest shift of brightness, as a share of the intensity range."""
    gamma: float = setting(0.5, "0.2 to 0.7", ge=0, lt=1)
    """Exponents are drawn from 1 − gamma … 1 / (1 − gamma), evenly in their logarithm."""
    shading: float = setting(0.25, "0.1 to 0.4", ge=0, lt=1)
    """Largest relative deviation of a smooth illumination across the crop."""
    noise: float = setting(0.08, "0.02 to 0.1", ge=0, lt=1)
    """Largest standard deviation of Gaussian noise, as a share of the intensity range."""
    shot_noise: float = setting(0.1, "0.05 to 0.3", ge=0, lt=1)
    """Largest standard deviation of counting noise at full intensity, as a share of the intensity range."""
    blur: float = setting(1.5, "1 to 2", ge=0, le=20)
    """Largest standard deviation of a Gaussian beam, in px."""
    astigmatism: float = setting(0.3, "0 to 0.5", ge=0, lt=1)
    """Of the blur: largest relative difference between the beam's two axes, in any direction."""
    defocus: float = setting(2.0, "1 to 3", ge=0, le=20)
    """Largest radius of the disk that a point becomes, in px."""
    charging: float = setting(0.25, "0.1 to 0.4", ge=0, le=1)
    """Largest brightening of halos around what is bright, and darkening after it along the scan line, as a
    share of the intensity range."""
    curtaining: float = setting(0.15, "0.05 to 0.2", ge=0, lt=1)
    """Largest relative amplitude of stripes across the scan lines."""
    drift: float = setting(2.0, "1 to 4", ge=0, le=100)
    """Largest sideways shift of a scan line (two standard deviations), in px; the mask shifts with it."""
    elastic: float = setting(6.0, "2 to 10", ge=0, le=100)
    """Largest displacement (two standard deviations) of a smooth deformation, in px."""
    elastic_scale: float = setting(64.0, "8 times `elastic` or more", ge=4, le=4096)
    """Over how many px that deformation changes."""
    copy_paste: int = setting(3, "1 to 5", ge=0, le=100)
    """Largest number of bodies of rare classes, from other training images, that are put into a crop."""
    copy_paste_share: float = setting(0.05, "0.02 to 0.1", ge=0, le=1)
    """A class is rare below this share of the labelled pixels of all training images."""
    probability: float = setting(0.5, "0.3 to 0.8", ge=0, le=1)
    """Of each change that has none of its own in `probabilities`; 0: nothing but orientation and scale."""
    probabilities: Probabilities = Probabilities()
    """Of each change to happen to a crop."""
    more: dict[str, dict[str, Any]] = setting({}, "{CLAHE: {p: 0.2}, GridDistortion: {p: 0.1}}")
    """Further transforms of albumentations by class name, with their arguments; each has its own `p`."""

    @field_validator("more", mode="after")
    @classmethod
    def _more_can_be_used(cls, more: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if more:
            from training.augmentation.library import check  # albumentations takes seconds to import

            check(more)
        return more

    @model_validator(mode="after")
    def _scales_are_a_range(self) -> Augmentation:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError("`augmentation.scale` must be two numbers between 0.1 and 10, the smaller first")
        return self

    def chance(self, change: str) -> float:
        """How likely the change of that name (a field of `Probabilities`) is; 0 where its strength is 0."""
        if not self.enabled or self.probability == 0 or getattr(self, change, 1) == 0:
            return 0.0
        own = getattr(self.probabilities, change)
        return self.probability if own is None else float(own)


NO_AUGMENTATION = Augmentation(enabled=False)
