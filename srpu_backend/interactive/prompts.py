"""What a person pointed at, in pixels of the image; knows nothing of Label Studio."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Click:
    """A point in px that belongs to the region, or does not."""

    x: int
    y: int
    positive: bool = True


@dataclass(frozen=True)
class Box:
    """Pixels [x0, x1) × [y0, y1) that the region lies in."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Prompts:
    """One region's prompts, in the order in which they were given."""

    clicks: tuple[Click, ...] = ()
    box: Box | None = None
    stroke: NDArray[np.bool_] | None = field(default=None, compare=False)
    """(H, W): pixels that a scribble covers; they belong to the region."""
    erased: NDArray[np.bool_] | None = field(default=None, compare=False)
    """(H, W): pixels that a negative scribble covers; they do not."""

    @property
    def points_at_something(self) -> bool:
        """True when a region can be told: something belongs to it, not only something that does not."""
        has_stroke = self.stroke is not None and bool(self.stroke.any())
        return self.box is not None or has_stroke or any(click.positive for click in self.clicks)
