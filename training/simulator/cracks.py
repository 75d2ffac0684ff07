"""Cracks: thin branching random walks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.simulator import config

STEP = 4.0
"""Length in px of a straight piece."""
OPEN = 0.75
"""Share of its path that a crack has opened when nothing has grown yet."""

_FRACTION = 4  # fractional bits in which OpenCV takes the corners


@dataclass(frozen=True)
class Crack:
    """One unbranched piece: float64 points (N, 2) as x, y in px, and the width in px at each point."""

    points: NDArray[np.float64]
    widths: NDArray[np.float64]


def fracture(
    kind: config.Cracks, shape: tuple[int, int], rng: np.random.Generator, *, scale: float = 1.0
) -> tuple[Crack, ...]:
    """Cracks and their branches; their area varies about `kind.share`, and may be none."""
    wanted = kind.share * shape[0] * shape[1] * rng.gamma(2.0, 0.5)
    cracks: list[Crack] = []
    while wanted > 0:
        length = rng.uniform(*kind.length) * scale
        width = rng.uniform(*kind.width)
        area = OPEN * length * width * 0.75
        if area > 1.2 * wanted:
            break
        start = rng.uniform((0, 0), (shape[1], shape[0]))
        family = _branching(kind, start, rng.uniform(0, 2 * math.pi), length, width, rng)
        cracks += family
        wanted -= sum(OPEN * float(crack.widths.sum()) * STEP for crack in family)
    return tuple(cracks)


def draw(canvas: NDArray[np.uint8], crack: Crack, growth: float) -> None:
    """Set the px of `crack` to 255 in `canvas`, uint8 (H, W); `growth` lengthens it along its path."""
    count = max(2, min(len(crack.points), round(len(crack.points) * OPEN * growth)))
    corners = np.rint(crack.points[:count] * 2**_FRACTION).astype(np.int32)
    for first, second, width in zip(corners[:-1], corners[1:], crack.widths, strict=False):
        ends = tuple(first.tolist()), tuple(second.tolist())
        cv2.line(canvas, *ends, 255, max(1, round(width)), cv2.LINE_8, _FRACTION)


def _branching(
    kind: config.Cracks,
    start: NDArray[np.float64],
    direction: float,
    length: float,
    width: float,
    rng: np.random.Generator,
) -> list[Crack]:
    crack, directions = _walk(kind, start, direction, length, width, rng)
    cracks = [crack]
    for _ in range(rng.poisson(kind.branching * length / 100)):
        at = int(rng.integers(1, len(crack.points)))
        turn = math.radians(rng.uniform(25, 65)) * rng.choice((-1, 1))
        rest = length * (1 - at / len(crack.points)) * rng.uniform(0.3, 0.8)
        if rest > 3 * STEP:
            thin = max(1.0, float(crack.widths[at]) * 0.7)
            cracks.append(_walk(kind, crack.points[at], directions[at] + turn, rest, thin, rng)[0])
    return cracks


def _walk(
    kind: config.Cracks,
    start: NDArray[np.float64],
    direction: float,
    length: float,
    width: float,
    rng: np.random.Generator,
) -> tuple[Crack, NDArray[np.float64]]:
    """A walk that wanders about its direction and thins out to 1 px."""
    steps = max(2, round(length / STEP))
    wander = rng.normal(0, math.radians(kind.wander), steps)
    # Mean-reverting, so that a crack crosses the field instead of curling up.
    angles = np.empty(steps)
    bend = 0.0
    for index, turn in enumerate(wander):
        bend = 0.9 * bend + turn
        angles[index] = direction + bend + 0.2 * rng.standard_normal()
    moves = STEP * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.vstack([start, start + np.cumsum(moves, axis=0)])
    widths = np.maximum(1.0, width * np.linspace(1, 0.35, steps + 1))
    return Crack(points, widths), np.append(angles, angles[-1])
