"""The bar that microscopes write below a picture: voltage, magnification, a scale bar. numpy only.

It is no part of the specimen. Its black and white would decide what an image is stretched to, and a model
would learn to segment letters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_TALLEST = 0.25  # of the image's height
_LOWEST, _LOWEST_SHARE = 8, 0.015  # px, and of the image's height
_FOOT = 0.01  # of the height: the lowest rows, which tell the bar's ground
_GROUND = 0.35  # of a row's pixels: what the densest line of text leaves of the ground
_GROUND_OF_BAR = 0.55  # of the bar's pixels
_LINE = 0.9  # of a row's pixels have one value: a ruled line
_ABOVE = 0.25  # of the pixels above may look like the ground by chance
_ROWS_ABOVE = 6
_TOLERANCES = (0.004, 0.03)  # of the range: written as it is, and through JPEG


def info_bar_height(image: NDArray[Any]) -> int:
    """Rows of the info bar at the lower edge of a grey image (H, W), uint8 or uint16; 0 where there is none.

    A bar is a band over the full width, on an even ground that every row of it shows, with a sharp upper
    edge; or a band of one value, such as the border some programs add.
    """
    if image.ndim != 2 or image.dtype.kind != "u" or image.shape[0] < 2 * _LOWEST:
        return 0
    height = image.shape[0]
    part = image[height - int(_TALLEST * height) - _ROWS_ABOVE :]
    most = float(np.iinfo(image.dtype).max)
    for tolerance in _TOLERANCES:
        found = _height_on_ground(part, tolerance * most)
        if found >= max(_LOWEST, _LOWEST_SHARE * height):
            return found
    return 0


def _height_on_ground(part: NDArray[Any], tolerance: float) -> int:
    """Rows of the bar, if the lowest rows show its ground."""
    foot = part[-max(3, round(_FOOT * part.shape[0] / _TALLEST)) :]
    values, counts = np.unique(foot, return_counts=True)
    ground = float(values[counts.argmax()])
    share = (np.abs(part.astype(np.float32) - ground) <= tolerance).mean(axis=1)
    of_bar = (share >= _GROUND) | _ruled(part, tolerance)
    height = int(np.argmin(of_bar[::-1])) if not of_bar.all() else 0
    if height < 1 or part.shape[0] - height < _ROWS_ABOVE:
        return 0
    above = share[-height - _ROWS_ABOVE : -height]
    return height if share[-height:].mean() >= _GROUND_OF_BAR and above.max() <= _ABOVE else 0


def _ruled(part: NDArray[Any], tolerance: float) -> NDArray[np.bool_]:
    """Rows of one value."""
    middle = np.median(part, axis=1, keepdims=True)
    ruled: NDArray[np.bool_] = (np.abs(part - middle) <= tolerance).mean(axis=1) >= _LINE
    return ruled
