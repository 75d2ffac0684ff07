"""What one segmentation says about a material: area fractions, particles and their sizes.

A particle is a connected region of one class (8 neighbours). Its equivalent diameter is that of the circle of
its area (ISO 9276-6). Particles that touch the edge of the picture are cut off: they count for the area, not
for the sizes (ISO 13322-1). d10, d50 and d90 are the diameters below which 10, 50 and 90 % of the particles
lie, by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, Frozen
from training.data.manifest import IGNORE_INDEX

SMALLEST_PARTICLE = 10
"""px: what is smaller is noise of the segmentation, as a rule."""


class Particle(Frozen):
    """One connected region. Lengths in px."""

    name: str
    """Of its class."""
    area: int
    diameter: float
    """Of the circle of the same area."""
    x: float
    y: float
    """Centre of its area, from the upper left corner of the picture."""
    aspect_ratio: float
    """Longer by shorter axis of the ellipse with its second moments; 1 = round."""
    touches_edge: bool


class ClassMeasurement(Frozen):
    """How much there is of a class in one picture. Lengths in px."""

    name: str
    area: int
    area_fraction: float
    """Of the pixels that somebody, or the model, spoke about."""
    particles: int
    at_the_edge: int
    """Particles that are cut off and have no size."""
    d10: float | None
    d50: float | None
    d90: float | None
    mean_diameter: float | None


def measure_classes(
    class_map: NDArray[np.uint8], classes: Sequence[ClassInfo], particles: Sequence[Particle]
) -> tuple[ClassMeasurement, ...]:
    """One measurement a class of a class map (H, W), 255 = ignored, with its `particles`."""
    counts = np.bincount(class_map.ravel(), minlength=IGNORE_INDEX + 1)
    known = int(counts[: len(classes)].sum())
    return tuple(
        _measurement(info.name, int(counts[index]), known, [p for p in particles if p.name == info.name])
        for index, info in enumerate(classes)
    )


def _measurement(name: str, area: int, known: int, particles: Sequence[Particle]) -> ClassMeasurement:
    diameters = [particle.diameter for particle in particles if not particle.touches_edge]
    d10, d50, d90 = diameter_quantiles(diameters)
    return ClassMeasurement(
        name=name,
        area=area,
        area_fraction=area / known if known else 0.0,
        particles=len(particles),
        at_the_edge=len(particles) - len(diameters),
        d10=d10,
        d50=d50,
        d90=d90,
        mean_diameter=float(np.mean(diameters)) if diameters else None,
    )


def diameter_quantiles(diameters: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """d10, d50 and d90 by number; None without a particle."""
    if not diameters:
        return None, None, None
    low, middle, high = np.percentile(diameters, [10, 50, 90])
    return float(low), float(middle), float(high)


def find_particles(
    class_map: NDArray[np.uint8], classes: Sequence[ClassInfo], smallest: int = SMALLEST_PARTICLE
) -> tuple[Particle, ...]:
    """The particles of every class but the first, of at least `smallest` px, from the top down."""
    found: list[Particle] = []
    for index, info in enumerate(classes):
        if index > 0:
            found += _particles_of(class_map == index, info.name, smallest)
    return tuple(sorted(found, key=lambda particle: (particle.y, particle.x)))


def _particles_of(mask: NDArray[np.bool_], name: str, smallest: int) -> list[Particle]:
    count, labels, statistics, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    height, width = mask.shape
    particles = []
    for number in range(1, count):
        left, top, across, down, area = (int(value) for value in statistics[number])
        if area < smallest:
            continue
        region = labels[top : top + down, left : left + across] == number
        particles.append(
            Particle(
                name=name,
                area=area,
                diameter=equivalent_diameter(area),
                x=float(centres[number][0]),
                y=float(centres[number][1]),
                aspect_ratio=_aspect_ratio(region),
                touches_edge=left == 0 or top == 0 or left + across == width or top + down == height,
            )
        )
    return particles


def equivalent_diameter(area: float) -> float:
    """Diameter of the circle of an area."""
    return float(np.sqrt(4 * area / np.pi))


def _aspect_ratio(region: NDArray[np.bool_]) -> float:
    """Of the ellipse with the region's second moments; a pixel is a square with moments of its own."""
    moments: dict[str, Any] = cv2.moments(region.astype(np.uint8), binaryImage=True)
    area = moments["m00"]
    across, down = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12
    slope = moments["mu11"] / area
    middle, half = (across + down) / 2, np.hypot((across - down) / 2, slope)
    return float(np.sqrt((middle + half) / max(middle - half, 1 / 12)))
