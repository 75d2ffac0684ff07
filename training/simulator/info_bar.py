"""The bar below a micrograph: acceleration voltage, working distance, and a scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Facts:
    """What the bar says."""

    voltage_kv: float
    working_distance_mm: float
    pixel_size_nm: float
    frame: int | None = None


def height_of(rows: int) -> int:
    """Rows the bar takes from an image of `rows`."""
    return max(16, round(rows * 0.06))


def draw(image: NDArray[np.uint8], facts: Facts) -> None:
    """Write the bar over the lowest rows of `image`, uint8 (H, W)."""
    rows, columns = image.shape
    height = height_of(rows)
    bar = np.zeros((height, columns), np.uint8)
    bar[0] = 255
    scale, baseline = height / 58, height // 2 + height // 6
    length, label = scale_bar(facts.pixel_size_nm, columns)
    text = f"HV {facts.voltage_kv:.1f} kV  WD {facts.working_distance_mm:.1f} mm  SE"
    if facts.frame is not None:
        text += f"  #{facts.frame}"
    cv2.putText(bar, text, (6, baseline), FONT, scale, 230, 1, cv2.LINE_AA)
    end, middle = columns - 10, height // 2
    cv2.line(bar, (end - length, middle), (end, middle), 255, 2)
    for x in (end - length, end):
        cv2.line(bar, (x, middle - height // 5), (x, middle + height // 5), 255, 1)
    (width, _), _ = cv2.getTextSize(label, FONT, scale, 1)
    cv2.putText(bar, label, (end - length - width - 8, baseline), FONT, scale, 255, 1, cv2.LINE_AA)
    image[rows - height :] = bar


def scale_bar(pixel_size_nm: float, columns: int) -> tuple[int, str]:
    """Length in px and label of a scale bar of 1, 2 or 5 × 10ⁿ nm that takes up to a fifth of the width."""
    longest = pixel_size_nm * columns / 5
    power = 10 ** math.floor(math.log10(longest))
    nanometres = max(step * power for step in (1, 2, 5) if step * power <= longest)
    label = f"{nanometres:g} nm" if nanometres < 1000 else f"{nanometres / 1000:g} um"
    return max(1, round(nanometres / pixel_size_nm)), label
