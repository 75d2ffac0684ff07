"""The specimen: what lies where, and the surface it makes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.simulator import bodies, cracks, grains
from training.simulator.bodies import Body, Patch
from training.simulator.config import SimulatorConfig
from training.simulator.cracks import Crack
from training.simulator.texture import rough_noise

Floats = NDArray[np.float32]
CRACK_DEPTH = 7.0
CRACK_YIELD = 0.12
"""A gap this narrow swallows most electrons."""
ROUGHNESS = 0.22
"""Standard deviation of the surface's height in px."""
MIXED = 0.02
"""Standard deviation of the yield within one material: composition, contamination."""


@dataclass(frozen=True)
class Surface:
    """A specimen on the px grid; all (H, W)."""

    classes: NDArray[np.uint8]
    """Exact class of every px."""
    brightness: Floats
    """Secondary-electron yield of the material, flat matrix = 1."""
    height: Floats
    """In px, matrix = 0."""
    insulator: Floats
    """0 where charge flows off, up to 1 where it stays."""


@dataclass(frozen=True)
class Specimen:
    """Geometry in px of a canvas larger than the image, so that the field of view can drift over it."""

    shape: tuple[int, int]
    matrix: grains.GrainMaps
    texture: Floats
    particles: tuple[Body, ...]
    pores: tuple[Body, ...]
    cracks: tuple[Crack, ...]


def prepare(config: SimulatorConfig, shape: tuple[int, int], rng: np.random.Generator) -> Specimen:
    """Draw a specimen over a canvas of `shape`; the classes that `config` leaves out are not there."""
    scale = min(1.0, min(config.size) / 512) ** 0.5  # small images show fewer and smaller things
    particles: tuple[Body, ...] = ()
    pores: tuple[Body, ...] = ()
    lines: tuple[Crack, ...] = ()
    matrix, texture = grains.grow(config.grains, shape, rng), rough_noise(shape, rng)
    if "particle" in config.classes:
        particles = bodies.scatter(config.particles, shape, rng, scale=scale)
    if "pore" in config.classes:
        pores = bodies.scatter(config.pores, shape, rng, scale=scale, others=particles)
    if "crack" in config.classes:
        lines = cracks.fracture(config.cracks, shape, rng, scale=scale)
    return Specimen(shape, matrix, texture, particles, pores, lines)


def rasterise(specimen: Specimen, config: SimulatorConfig, growth: float = 1.0) -> Surface:
    """The surface when everything has grown by `growth` since the beginning."""
    surface = Surface(
        classes=np.zeros(specimen.shape, np.uint8),
        brightness=specimen.matrix.brightness.copy(),
        height=specimen.matrix.height.copy(),
        insulator=np.zeros(specimen.shape, np.float32),
    )
    for name, kind, placed, up in (
        ("particle", config.particles, specimen.particles, 1),
        ("pore", config.pores, specimen.pores, -1),
    ):
        for body in placed:
            patch = bodies.rasterise(body, specimen.shape, max(0.2, 1 + (growth - 1) * body.growth))
            if patch is not None:
                _put(surface, patch, body, config.index_of(name), kind.rounding, up)
    if specimen.cracks:
        _open_cracks(surface, specimen.cracks, config.index_of("crack"), growth)
    np.add(surface.brightness, MIXED * specimen.texture, out=surface.brightness)
    np.add(surface.height, ROUGHNESS * specimen.texture, out=surface.height)
    return surface


def _put(surface: Surface, patch: Patch, body: Body, index: int, rounding: float, up: int) -> None:
    """Write one body over what was there; its edge is as steep as `rounding` says."""
    window, inside = (patch.rows, patch.columns), patch.inside
    profile = 1 - np.exp(-patch.depth[inside] / np.float32(rounding))
    surface.classes[window][inside] = index
    surface.brightness[window][inside] = body.brightness
    surface.height[window][inside] = np.float32(up * body.relief) * profile
    surface.insulator[window][inside] = float(body.insulating)


def _open_cracks(surface: Surface, lines: tuple[Crack, ...], index: int, growth: float) -> None:
    canvas = np.zeros(surface.classes.shape, np.uint8)
    for crack in lines:
        cracks.draw(canvas, crack, growth)
    depth = cv2.distanceTransform(canvas, cv2.DIST_L2, 3)
    inside = canvas > 0
    surface.classes[inside] = index
    surface.brightness[inside] = CRACK_YIELD
    surface.height[inside] = -np.float32(CRACK_DEPTH) * (1 - np.exp(-depth[inside] / np.float32(0.8)))
    surface.insulator[inside] = 0
