"""Closed outlines: second-phase particles and pores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.simulator import config

Floats = NDArray[np.float32]
HARMONICS = (2, 3, 4, 5, 7)
ATTEMPTS = 40
"""Places tried for one body before it is left out: random sequential adsorption saturates."""


@dataclass(frozen=True)
class Body:
    """A superellipse whose rim is modulated by a few harmonics; lengths in px."""

    x: float
    y: float
    semi_axes: tuple[float, float]
    angle: float
    exponent: float
    waves: tuple[tuple[float, float], ...]
    """Amplitude (relative) and phase of each of `HARMONICS`."""
    brightness: float
    relief: float
    insulating: bool
    growth: float
    """How fast it grows, relative to the others."""

    @property
    def reach(self) -> float:
        """Radius of a circle about the centre that the outline does not leave."""
        stretch = 2 ** max(0.0, 0.5 - 1 / self.exponent)
        return max(self.semi_axes) * stretch * (1 + sum(abs(amplitude) for amplitude, _ in self.waves))


@dataclass(frozen=True)
class Patch:
    """A body on the px grid, in the window it touches."""

    rows: slice
    columns: slice
    inside: NDArray[np.bool_]
    depth: Floats
    """Approximate distance from the outline in px, positive inside."""


def scatter(
    kind: config.Bodies,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    others: Sequence[Body] = (),
) -> tuple[Body, ...]:
    """Bodies placed one after the other, largest first, none closer to another than `kind.touching` allows.

    `scale` shrinks all lengths; `others` are bodies that were there before.
    """
    wanted = rng.uniform(*kind.share) * shape[0] * shape[1]
    direction = rng.uniform(0, math.pi)
    radii = _radii(kind, wanted, scale, rng)
    placed: list[Body] = []
    taken = [(body.x, body.y, body.reach) for body in others]
    for radius in radii:
        body = _draw(kind, radius, direction, rng)
        place = _free_place(body.reach, taken, kind.touching, shape, rng)
        if place is not None:
            placed.append(_moved(body, *place))
            taken.append((*place, body.reach))
    return tuple(placed)


def rasterise(body: Body, shape: tuple[int, int], growth: float) -> Patch | None:
    """The px whose centres lie in `body`, its size multiplied by `growth`; None when it is off the canvas."""
    reach = body.reach * growth + 1
    top, bottom = max(0, math.floor(body.y - reach)), min(shape[0], math.ceil(body.y + reach) + 1)
    left, right = max(0, math.floor(body.x - reach)), min(shape[1], math.ceil(body.x + reach) + 1)
    if top >= bottom or left >= right:
        return None
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(body.y)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(body.x)
    radius = _relative_radius(body, x, y) / np.float32(growth)
    mean_radius = math.sqrt(body.semi_axes[0] * body.semi_axes[1]) * growth
    return Patch(slice(top, bottom), slice(left, right), radius <= 1, (1 - radius) * np.float32(mean_radius))


def _relative_radius(body: Body, x: Floats, y: Floats) -> Floats:
    """Distance from the centre in units of the outline's distance in that direction."""
    cos, sin = np.float32(math.cos(body.angle)), np.float32(math.sin(body.angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    u, v = np.abs(along) / np.float32(body.semi_axes[0]), np.abs(across) / np.float32(body.semi_axes[1])
    exponent = np.float32(body.exponent)
    radius = (u**exponent + v**exponent) ** (1 / exponent)
    theta = np.arctan2(across, along)
    rim = np.ones_like(theta)
    for order, (amplitude, phase) in zip(HARMONICS, body.waves, strict=True):
        rim += np.float32(amplitude) * np.cos(np.float32(order) * theta + np.float32(phase))
    return np.asarray(radius / np.maximum(rim, np.float32(0.2)), np.float32)


def _radii(kind: config.Bodies, area: float, scale: float, rng: np.random.Generator) -> list[float]:
    """Lognormal radii that together cover `area`, largest first."""
    radii: list[float] = []
    while area > 0:
        radius = kind.radius * scale * math.exp(kind.spread * float(np.clip(rng.standard_normal(), -2, 2)))
        radius = max(radius, kind.smallest)
        radii.append(radius)
        area -= math.pi * radius**2
    return sorted(radii, reverse=True)


def _draw(kind: config.Bodies, radius: float, direction: float, rng: np.random.Generator) -> Body:
    elongation = math.sqrt(rng.uniform(*kind.elongation))
    angle = direction + rng.normal(0, 0.08) if kind.aligned else rng.uniform(0, math.pi)
    amplitudes = rng.normal(0, kind.waviness, len(HARMONICS)) * 3 / np.array(HARMONICS) ** 1.5
    phases = rng.uniform(0, 2 * math.pi, len(HARMONICS))
    return Body(
        x=0.0,
        y=0.0,
        semi_axes=(radius * elongation, radius / elongation),
        angle=float(angle),
        exponent=float(rng.uniform(*kind.exponent)),
        waves=tuple(zip(amplitudes.tolist(), phases.tolist(), strict=True)),
        brightness=float(rng.uniform(*kind.brightness)),
        relief=float(rng.uniform(*kind.relief)) * min(1.0, radius / kind.radius + 0.3),
        insulating=bool(rng.uniform() < kind.insulating),
        growth=float(rng.uniform(0.5, 1.5)),
    )


def _moved(body: Body, x: float, y: float) -> Body:
    return replace(body, x=x, y=y)


def _free_place(
    reach: float,
    taken: Sequence[tuple[float, float, float]],
    touching: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[float, float] | None:
    """A centre that keeps its distance from `taken`; None when no attempt found one."""
    x = rng.uniform(0, shape[1], ATTEMPTS)
    y = rng.uniform(0, shape[0], ATTEMPTS)
    if taken:
        others = np.array(taken)
        distance = np.hypot(x[:, None] - others[:, 0], y[:, None] - others[:, 1])
        free = (distance > (reach + others[:, 2]) * (1 - touching)).all(axis=1)
    else:
        free = np.ones(ATTEMPTS, bool)
    found = np.flatnonzero(free)
    return (float(x[found[0]]), float(y[found[0]])) if found.size else None
