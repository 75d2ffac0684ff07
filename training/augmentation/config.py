"""The settings of the augmentation."""

from __future__ import annotations

from pydantic import model_validator

from training.settings_block import SettingsBlock, setting


class Augmentation(SettingsBlock):
    """Random changes of each crop. Intensities are in [0, 1], after normalisation of the whole image."""

    enabled: bool = True
    """False: crops as they are."""
    orientation: bool = True
    """Flips and quarter turns, all eight equally likely."""
    scale: tuple[float, float] = (0.7, 1.4)
    """Range of the magnification a crop is taken at; 1 = as recorded."""
    contrast: float = setting(0.4, "0.2 to 0.5", ge=0, lt=1)
    """Largest relative change of contrast."""
    brightness: float = setting(0.3, "0.1 to 0.4", ge=0, lt=1)
    """Largest shift of brightness, as a share of the intensity range."""
    gamma: float = setting(0.5, "0.2 to 0.7", ge=0, lt=1)
    """Exponents are drawn from 1 − gamma … 1 / (1 − gamma), evenly in their logarithm."""
    noise: float = setting(0.08, "0.02 to 0.1", ge=0, lt=1)
    """Largest standard deviation of Gaussian noise, as a share of the intensity range."""
    shot_noise: float = setting(0.1, "0.05 to 0.3", ge=0, lt=1)
    """Largest standard deviation of counting noise at full intensity, as a share of the intensity range."""
    blur: float = setting(1.5, "1 to 2", ge=0)
    """Largest standard deviation of a Gaussian blur, in px."""
    probability: float = setting(0.5, "0.3 to 0.8", ge=0, le=1)
    """Of each change of intensities to happen to a crop."""

    @model_validator(mode="after")
    def _scales_are_a_range(self) -> Augmentation:
        low, high = self.scale
        if not 0.1 <= low <= high <= 10:
            raise ValueError("`augmentation.scale` must be two numbers between 0.1 and 10, the smaller first")
        return self
