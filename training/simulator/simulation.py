"""One micrograph, or a sequence of one field of view: a specimen is prepared, grows, and is scanned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from training.data.manifest import IGNORE_INDEX
from training.simulator import info_bar
from training.simulator.config import SimulatorConfig
from training.simulator.imaging import Floats, Scan, acquire, begin_session
from training.simulator.specimen import prepare, rasterise

MARGIN = 24
"""Px around the field of view, so that it can drift."""


@dataclass(frozen=True)
class Micrograph:
    """An image and what it shows."""

    image: NDArray[np.uint8] | NDArray[np.uint16]
    """Grey (H, W), 8 or 16 bits."""
    mask: NDArray[np.uint8]
    """(H, W), index into `classes`; 255 (ignore) under the info bar."""
    classes: tuple[ClassInfo, ...]
    pixel_size_nm: float


def simulate(config: SimulatorConfig, seed: int | Sequence[int]) -> Micrograph:
    """One micrograph; the same configuration and seed give the same px."""
    return next(_frames(config, np.random.default_rng(seed), sequence=False))


def simulate_sequence(
    config: SimulatorConfig, seed: int | Sequence[int], frames: int
) -> Iterator[Micrograph]:
    """`frames` micrographs of one specimen in one session, between which things grow and the field drifts."""
    film = _frames(config, np.random.default_rng(seed), sequence=True)
    for _ in range(frames):
        yield next(film)


def _frames(config: SimulatorConfig, rng: np.random.Generator, *, sequence: bool) -> Iterator[Micrograph]:
    height, width = config.size
    specimen_rng, session_rng, scan_rng = rng.spawn(3)
    specimen = prepare(config, (height + 2 * MARGIN, width + 2 * MARGIN), specimen_rng)
    session = begin_session(config.imaging, session_rng)
    growth_rate = session_rng.uniform(*config.evolution.growth)
    facts = info_bar.Facts(
        voltage_kv=float(session_rng.choice((2, 3, 5, 10, 15))),
        working_distance_mm=float(session_rng.uniform(3, 9)),
        pixel_size_nm=float(session_rng.uniform(*config.pixel_size_nm)),
    )
    origin, growth, frame = np.array([MARGIN, MARGIN], float), 1.0, 1
    while True:
        surface = rasterise(specimen, config, growth)
        scan = acquire(surface, config.imaging, session, config.size, (origin[0], origin[1]), scan_rng)
        numbered = replace(facts, frame=frame if sequence else None)
        yield _developed(scan, config, numbered)
        origin = np.clip(origin + scan_rng.normal(0, config.evolution.drift, 2), 3, 2 * MARGIN - 3)
        growth *= 1 + growth_rate * scan_rng.uniform(0.5, 1.5)
        frame += 1


def _developed(scan: Scan, config: SimulatorConfig, facts: info_bar.Facts) -> Micrograph:
    image = _quantised(scan.image, config.imaging.bits)
    mask = scan.classes.copy()
    if config.imaging.info_bar:
        rows = info_bar.height_of(len(image))
        bar = np.zeros(image.shape, np.uint8)
        info_bar.draw(bar, facts)
        image[-rows:] = bar[-rows:].astype(image.dtype) * (257 if config.imaging.bits == 16 else 1)
        # Whatever the bar hides, nobody can see: it must teach nothing.
        mask[-rows:] = IGNORE_INDEX
    return Micrograph(image, mask, config.class_infos, facts.pixel_size_nm)


def _quantised(image: Floats, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if bits == 16:
        return np.asarray(np.rint(image * np.float32(65535)), np.uint16)
    return np.asarray(np.rint(image * np.float32(255)), np.uint8)
