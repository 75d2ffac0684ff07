"""Many pictures measured: a table of pictures, a table of particles, a summary, and plots to look at."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_zoo.card import ClassInfo, Frozen
from model_zoo.files import write_atomically
from training.data.pixel_size import PixelSize
from training.measuring.particles import (
    SMALLEST_PARTICLE,
    ClassMeasurement,
    Particle,
    diameter_quantiles,
    find_particles,
    measure_classes,
)

PICTURES_NAME, PARTICLES_NAME, SUMMARY_NAME = "pictures.csv", "particles.csv", "summary.json"
PLOT_NAME = "measurements.png"


@dataclass(frozen=True)
class Segmented:
    """One picture to be measured."""

    key: str
    class_map: Any
    """uint8 (H, W), 255 = ignored; an info bar is cut off."""
    pixel_size: PixelSize | None = None


class ClassSummary(Frozen):
    """A class over all pictures. Diameters by number, of particles that are not cut off."""

    name: str
    area_fraction: float
    """Of all pixels of all pictures."""
    area_fraction_deviation: float | None
    """Standard deviation of the fraction between pictures; None for one picture."""
    particles: int
    at_the_edge: int
    d10_px: float | None
    d50_px: float | None
    d90_px: float | None
    d10_nm: float | None
    d50_nm: float | None
    d90_nm: float | None
    """In nm only where the pixel size of every picture with such particles is known."""


class MeasuringSummary(Frozen):
    """What `summary.json` says."""

    pictures: int
    with_pixel_size: int
    smallest_particle: int
    """px; smaller regions count for the area alone."""
    classes: tuple[ClassSummary, ...]


@dataclass
class Tally:
    """What is remembered of a class: a number a picture, a number a particle."""

    areas: list[int] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    diameters: list[float] = field(default_factory=list)
    nanometres: list[float] = field(default_factory=list)
    particles: int = 0
    at_the_edge: int = 0

    def add(self, measured: ClassMeasurement, particles: Sequence[Particle], size: PixelSize | None) -> None:
        """Add one picture."""
        self.areas.append(measured.area)
        self.fractions.append(measured.area_fraction)
        self.particles += measured.particles
        self.at_the_edge += measured.at_the_edge
        whole = [p.diameter for p in particles if p.name == measured.name and not p.touches_edge]
        self.diameters += whole
        self.nanometres += [size.nanometres * diameter for diameter in whole] if size else []


def measure_pictures(
    pictures: Iterable[Segmented],
    classes: Sequence[ClassInfo],
    out: Path,
    smallest: int = SMALLEST_PARTICLE,
    plot: Callable[[Path, Sequence[ClassInfo], dict[str, Tally]], None] | None = None,
) -> MeasuringSummary:
    """Measure one picture after another and write the tables, the summary and the plot into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tallies = {info.name: Tally() for info in classes}
    known = 0
    count = 0
    with ExitStack() as stack:
        table = _Table(stack, out / PICTURES_NAME, _PICTURE_COLUMNS)
        list_of_particles = _Table(stack, out / PARTICLES_NAME, _PARTICLE_COLUMNS)
        for picture in pictures:
            particles = find_particles(picture.class_map, classes, smallest)
            count += 1
            known += picture.pixel_size is not None
            for measured in measure_classes(picture.class_map, classes, particles):
                tallies[measured.name].add(measured, particles, picture.pixel_size)
                table.write(_picture_row(picture, measured))
            for particle in particles:
                list_of_particles.write(_particle_row(picture, particle))
    summary = MeasuringSummary(
        pictures=count,
        with_pixel_size=known,
        smallest_particle=smallest,
        classes=tuple(_summary(info.name, tallies) for info in classes),
    )
    write_atomically(out / SUMMARY_NAME, summary.model_dump_json(indent=1).encode())
    if plot is not None and count:
        plot(out / PLOT_NAME, classes, tallies)
    return summary


def _summary(name: str, tallies: dict[str, Tally]) -> ClassSummary:
    tally = tallies[name]
    total = sum(sum(each.areas) for each in tallies.values())
    in_px = diameter_quantiles(tally.diameters)
    all_known = len(tally.nanometres) == len(tally.diameters)
    in_nm = diameter_quantiles(tally.nanometres if all_known else [])
    return ClassSummary(
        name=name,
        area_fraction=sum(tally.areas) / total if total else 0.0,
        area_fraction_deviation=float(np.std(tally.fractions, ddof=1)) if len(tally.fractions) > 1 else None,
        particles=tally.particles,
        at_the_edge=tally.at_the_edge,
        d10_px=in_px[0],
        d50_px=in_px[1],
        d90_px=in_px[2],
        d10_nm=in_nm[0],
        d50_nm=in_nm[1],
        d90_nm=in_nm[2],
    )


_LENGTHS = ("d10", "d50", "d90", "mean_diameter")
_PICTURE_COLUMNS = (
    *("picture", "class", "area_px", "area_fraction", "particles", "at_the_edge"),
    *(f"{name}_px" for name in _LENGTHS),
    *(f"{name}_nm" for name in _LENGTHS),
    *("pixel_size_nm", "pixel_size_from"),
)
_PARTICLE_COLUMNS = (
    *("picture", "class", "x_px", "y_px", "area_px", "diameter_px", "diameter_nm", "aspect_ratio"),
    "touches_edge",
)


class _Table:
    """A CSV file that grows row by row."""

    def __init__(self, stack: ExitStack, path: Path, columns: Sequence[str]) -> None:
        self._writer = csv.writer(stack.enter_context(path.open("w", newline="", encoding="utf-8")))
        self._writer.writerow(columns)

    def write(self, row: Sequence[Any]) -> None:
        self._writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row])


def _picture_row(picture: Segmented, measured: ClassMeasurement) -> list[Any]:
    size = picture.pixel_size
    lengths = [getattr(measured, name) for name in _LENGTHS]
    return [
        *(picture.key, measured.name, measured.area, measured.area_fraction),
        *(measured.particles, measured.at_the_edge),
        *lengths,
        *(length * size.nanometres if size and length is not None else None for length in lengths),
        *((size.nanometres, size.source) if size else (None, None)),
    ]


def _particle_row(picture: Segmented, particle: Particle) -> list[Any]:
    size = picture.pixel_size
    return [
        *(picture.key, particle.name, particle.x, particle.y, particle.area, particle.diameter),
        particle.diameter * size.nanometres if size else None,
        *(particle.aspect_ratio, int(particle.touches_edge)),
    ]
