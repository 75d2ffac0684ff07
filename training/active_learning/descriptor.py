"""What a micrograph looks like, in numbers that need no network and no weights: for the cold start.

Statistics of grey values and texture at five magnifications, each known in the field: histograms, gradients,
rotation-invariant local binary patterns (Ojala, Pietikäinen & Mäenpää, IEEE PAMI 24, 2002), Gabor energies
(Manjunath & Ma, IEEE PAMI 18, 1996) and the radial power spectrum. Turning or mirroring an image changes
little, and so do brightness and contrast, which are set by hand at the microscope.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Normalisation
from model_zoo.normalisation import normalise

NAME = "texture-1"
"""Changes when the numbers do."""
SIDE = 384
"""Longer side in px that images are reduced to; bounds time and memory."""
_LEVELS = 5
_LEAST = 16  # px below which a level of the pyramid says nothing
_PATTERNS = 10
_GREYS = 16
_RINGS = 16
_DIRECTIONS = 6
_LEVEL_WIDTH = 7 + _PATTERNS + 3
WIDTH = _GREYS + _LEVELS * _LEVEL_WIDTH + _RINGS
"""How many numbers there are."""

Floats = NDArray[np.float32]
_STRETCH = Normalisation(mean=0.0, std=1.0)


def describe_texture(image: NDArray[Any]) -> Floats:
    """Grey image (H, W) of any type → float32 (`WIDTH`,), finite, each number of order 1."""
    small = _reduced(normalise(image[None], _STRETCH)[0])
    parts = [_shares(np.histogram(small, _GREYS, (0.0, 1.0))[0])]
    level = small
    for _ in range(_LEVELS):
        parts.append(_level(level))
        if min(level.shape) >= 2 * _LEAST:
            level = cv2.pyrDown(level)
    parts.append(_spectrum(small))
    return np.concatenate(parts).astype(np.float32)


def _reduced(image: Floats) -> Floats:
    scale = SIDE / max(image.shape)
    height, width = (max(_LEAST, round(side * min(1.0, scale))) for side in image.shape)
    reduced: Floats = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return reduced


def _level(image: Floats) -> Floats:
    """Of one magnification: gradients, curvature, patterns, Gabor energies."""
    dx, dy = cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)
    size = np.sqrt(dx * dx + dy * dy)
    curvature = cv2.Laplacian(image, cv2.CV_32F)
    # How much the structure tensor of the whole image prefers one direction, whichever.
    along, across, mixed = (float(np.mean(v)) for v in (dx * dx, dy * dy, dx * dy))
    order = np.hypot(along - across, 2 * mixed) / (along + across + 1e-9)
    spread = float(curvature.std()) + 1e-6
    tails = float(np.mean((curvature / spread) ** 4)) / 10
    moments = [
        _log(float(size.mean())),
        _log(float(size.std())),
        _log(spread),
        float(order),
        min(tails, 3.0),
        float(image.std()) * 3,
        float(np.mean(size > 4 * np.median(size) + 1e-6)) * 3,
    ]
    return np.concatenate([moments, _patterns(image), _gabor(image)]).astype(np.float32)


def _patterns(image: Floats) -> Floats:
    """Uniform rotation-invariant local binary patterns of eight neighbours: shares of the ten kinds."""
    padded = cv2.copyMakeBorder(cv2.GaussianBlur(image, (0, 0), 0.8), 1, 1, 1, 1, cv2.BORDER_REFLECT)
    middle = padded[1:-1, 1:-1]
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    height, width = image.shape
    # A hair above the centre counts as equal: flat areas would be pure noise else.
    brighter = np.stack([padded[y : y + height, x : x + width] > middle + 0.01 for y, x in ring])
    changes = (brighter != np.roll(brighter, 1, axis=0)).sum(axis=0)
    kinds = np.where(changes <= 2, brighter.sum(axis=0), _PATTERNS - 1)
    return _shares(np.bincount(kinds.reshape(-1), minlength=_PATTERNS))


def _gabor(image: Floats) -> Floats:
    """Energy at a wavelength of 6 px: mean over directions, of the strongest, and how unlike they are."""
    energies = [float(np.abs(cv2.filter2D(image, cv2.CV_32F, kernel)).mean()) for kernel in _kernels()]
    mean, most = float(np.mean(energies)), max(energies)
    return np.array([_log(mean), _log(most), (most - min(energies)) / (most + 1e-6)], np.float32)


@cache
def _kernels() -> tuple[Floats, ...]:
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    kernels = [cv2.getGaborKernel((13, 13), 2.5, angle, 6.0, 1.0, 0.0).astype(np.float32) for angle in angles]
    return tuple(kernel - kernel.mean() for kernel in kernels)


def _spectrum(image: Floats) -> Floats:
    """Logarithm of the power in rings of frequency, each an equal factor wider, relative to all of it."""
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2
    rows, columns = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None]
    edges = np.geomspace(1 / 128, 0.5, _RINGS)
    rings = np.searchsorted(edges, np.hypot(rows, columns).reshape(-1)).clip(0, _RINGS - 1)
    total = np.bincount(rings, power.reshape(-1), minlength=_RINGS)
    shares: Floats = np.log10(total / (total.sum() + 1e-12) + 1e-6).astype(np.float32) / 3
    return shares


def _shares(counts: NDArray[Any]) -> Floats:
    """Square roots of the shares: their distance is Hellinger's."""
    roots: Floats = np.sqrt(counts / max(1, counts.sum())).astype(np.float32)
    return roots


def _log(value: float) -> float:
    return float(np.log10(value + 1e-5)) / 2
