"""What charge, an ion beam and an unsteady scan do to a picture; the augmentation does the same.

Charge is carried along the fast scan direction, x; curtains hang along y.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from training.simulator.texture import smooth_noise

Floats = NDArray[np.float32]
TRAIL = 40.0
"""Length in px over which a scan line remembers charge."""
STRIPE = 200
"""Length in px over which a curtain's stripe becomes another."""


def charging(insulator: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """Charged bodies bloom, and darken what the beam scans after them, each line by another amount.

    `insulator` is float32 (H, W), 0 where nothing charges to 1; returned is what to add to the signal.
    """
    if not strength or not insulator.any():
        return np.zeros_like(insulator)
    memory = math.exp(-1 / TRAIL)
    # All in float32: twice as fast, and a training does it many times.
    filters = np.array([1 - memory], np.float32), np.array([1, -memory], np.float32)
    trail = lfilter(*filters, insulator, axis=1)
    lines = np.asarray(1 + 0.45 * rng.standard_normal((len(insulator), 1)), np.float32)
    bloom = cv2.GaussianBlur(insulator, (0, 0), 5) + np.float32(0.6) * insulator
    amount = np.float32(strength)
    return np.asarray(bloom * (0.4 * amount * (1 + lines)) - trail * (1.6 * amount * lines), np.float32)


def curtains(size: tuple[int, int], amplitude: float, rng: np.random.Generator) -> Floats:
    """Vertical stripes that come and go downwards, as a focused ion beam leaves them; a factor about 1."""
    rows, columns = size
    profiles = np.concatenate([_stripes(columns, rng) for _ in range(math.ceil(rows / STRIPE) + 1)])
    high = cv2.resize(profiles, (columns, len(profiles) * STRIPE), interpolation=cv2.INTER_LINEAR)
    stripes = high[STRIPE // 2 :][:rows]
    fading = np.linspace(0.5, 1.2, rows, dtype=np.float32)[:, None]
    return np.asarray(1 + amplitude * fading * stripes, np.float32)


def _stripes(columns: int, rng: np.random.Generator) -> Floats:
    """Narrow, middling and wide stripes side by side: float32 (1, columns)."""
    stripes = [
        weight * smooth_noise((1, columns), width, rng) for width, weight in ((2.5, 0.5), (9, 0.7), (40, 0.5))
    ]
    return np.asarray(np.sum(stripes, axis=0), np.float32)


def shake(rows: int, rng: np.random.Generator) -> Floats:
    """Sideways vibration of each line, correlated from line to line, of unit variance: float32 (rows, 1)."""
    return np.asarray(
        lfilter([math.sqrt(1 - 0.8**2)], [1, -0.8], rng.standard_normal((rows, 1)), axis=0), np.float32
    )
