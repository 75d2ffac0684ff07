"""The microscope: from a surface to what a secondary-electron detector sees.

Yield follows 1 / cos θ of the local tilt (Goldstein et al., Scanning Electron Microscopy and X-Ray
Microanalysis, 4th ed., ch. 3.6), which is what makes edges bright; hollows lose electrons to their
walls; counts are Poisson. What charge and an ion beam add is in `artefacts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.simulator import config
from training.simulator.artefacts import charging, curtains, shake
from training.simulator.specimen import Surface
from training.simulator.texture import smooth_noise

Floats = NDArray[np.float32]
ESCAPE = 0.8
"""Standard deviation in px over which the electrons of one spot escape."""
STEEPEST = 2.4
"""Largest 1 / cos θ: the escape depth bounds the yield of an edge."""
HOLLOW = 3.0
"""Depth in px at which a hollow's yield has fallen to 1 / e."""


@dataclass(frozen=True)
class Session:
    """Settings that stay the same while an operator works on one specimen."""

    brightness: float
    contrast: float
    gamma: float
    dose: float
    detector_noise: float
    blur: tuple[float, float]
    """Standard deviations of the point spread function along x and y, in px."""
    shading: float
    azimuth: float
    """Where the detector is, in radians."""
    charging: float
    jitter: float
    line_noise: float
    curtaining: float


@dataclass(frozen=True)
class Scan:
    """One acquired frame."""

    image: Floats
    """(H, W), 0 black to 1 white, clipped."""
    classes: NDArray[np.uint8]
    """(H, W), moved exactly as the image was."""


def begin_session(imaging: config.Imaging, rng: np.random.Generator) -> Session:
    """Draw the settings of one session."""
    defocus = rng.uniform(*imaging.defocus)
    ratio = math.sqrt(1 + rng.uniform(-imaging.astigmatism, imaging.astigmatism))
    return Session(
        brightness=rng.uniform(*imaging.brightness),
        contrast=rng.uniform(*imaging.contrast),
        gamma=rng.uniform(*imaging.gamma),
        dose=rng.uniform(*imaging.dose),
        detector_noise=rng.uniform(*imaging.detector_noise),
        blur=(defocus * ratio, defocus / ratio),
        shading=rng.uniform(*imaging.shading),
        azimuth=rng.uniform(0, 2 * math.pi),
        charging=rng.uniform(*imaging.charging),
        jitter=rng.uniform(*imaging.jitter),
        line_noise=rng.uniform(*imaging.line_noise),
        curtaining=imaging.curtaining,
    )


def acquire(
    surface: Surface,
    imaging: config.Imaging,
    session: Session,
    size: tuple[int, int],
    origin: tuple[float, float],
    rng: np.random.Generator,
) -> Scan:
    """Scan `size` px of a surface from `origin` (y, x) on; the same displacements move image and classes."""
    emitted = cv2.GaussianBlur(
        emission(surface, session), (0, 0), sigmaX=session.blur[0], sigmaY=session.blur[1]
    )
    x, y = _beam_positions(size, origin, imaging.drift, session.jitter, rng)
    signal = cv2.remap(emitted, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    charge = cv2.remap(surface.insulator, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    classes = cv2.remap(surface.classes, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    signal += charging(np.asarray(charge, np.float32), session.charging, rng)
    if session.curtaining:
        signal *= curtains(size, session.curtaining, rng)
    image = _detect(np.asarray(signal, np.float32), imaging, session, rng)
    return Scan(image, np.asarray(classes, np.uint8))


def emission(surface: Surface, session: Session) -> Floats:
    """Secondary electrons per incident one, flat matrix = 1; float32 (H, W)."""
    height = cv2.GaussianBlur(surface.height, (0, 0), ESCAPE)
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    steepness = np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = -(slope_x * math.cos(session.azimuth) + slope_y * math.sin(session.azimuth)) / steepness
    hollow = np.maximum(0, -surface.height)
    escaping = 0.1 + 0.9 * np.exp(-hollow / HOLLOW)
    lit = np.minimum(steepness, STEEPEST) * (1 + session.shading * facing) * escaping
    return np.asarray(surface.brightness * lit, np.float32)


def _beam_positions(
    size: tuple[int, int],
    origin: tuple[float, float],
    drift: float,
    jitter: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Where the beam really was for every px: the stage drifts, lines jitter; float32 (H, W) x and y."""
    rows, columns = size
    time = np.arange(rows, dtype=np.float32)[:, None] / rows
    drift_x, drift_y = rng.uniform(-drift, drift, 2)
    x = np.arange(columns, dtype=np.float32)[None, :] + origin[1] + drift_x * time + jitter * shake(rows, rng)
    y = np.arange(rows, dtype=np.float32)[:, None] + origin[0] + drift_y * time
    return np.asarray(x, np.float32), np.ascontiguousarray(np.broadcast_to(y, size), dtype=np.float32)


def _detect(signal: Floats, imaging: config.Imaging, session: Session, rng: np.random.Generator) -> Floats:
    """Count electrons, amplify, and add what the electronics add."""
    electrons = rng.poisson(session.dose * np.maximum(signal, 0.01)).astype(np.float32)
    image = session.brightness + session.contrast * (electrons / np.float32(session.dose) - 1)
    rows, columns = signal.shape
    image += imaging.unevenness * smooth_noise((rows, columns), max(rows, columns) / 2, rng)
    image += session.line_noise * rng.standard_normal((rows, 1), np.float32)
    image += session.detector_noise * rng.standard_normal(signal.shape, np.float32)
    return np.asarray(np.clip(image, 0, 1) ** np.float32(session.gamma), np.float32)
