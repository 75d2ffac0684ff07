"""The matrix: grains of a polycrystal, their channelling contrast and the grooves between them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.simulator import config
from training.simulator.texture import smooth_noise

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GrainMaps:
    """What the grains contribute to a surface; all float32 (H, W)."""

    brightness: Floats
    """Relative yield, about 1: backscattering depends on each grain's orientation."""
    height: Floats
    """In px; negative in the grooves."""


def grow(grains: config.Grains, shape: tuple[int, int], rng: np.random.Generator) -> GrainMaps:
    """Voronoi grains over `shape`, with bent boundaries, twins and grooves."""
    labels = _bent(_voronoi(shape, grains.size, rng), grains.bend, rng)
    count = int(labels.max()) + 1
    level = 1 + grains.channelling * np.clip(rng.standard_normal(count), -2, 2)
    brightness = level[labels].astype(np.float32)
    _add_twins(brightness, labels, grains, rng)
    return GrainMaps(brightness, _grooves(labels, grains.groove))


def _voronoi(shape: tuple[int, int], spacing: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Label of the nearest seed for every px; seeds lie on a jittered grid with gaps."""
    height, width = shape
    rows, columns = int(height / spacing) + 3, int(width / spacing) + 3
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) - 1.0
    y, x = (y + rng.uniform(size=y.size)) * spacing, (x + rng.uniform(size=x.size)) * spacing
    kept = rng.uniform(size=y.size) > 0.25
    kept[rng.integers(y.size)] = True
    row, column = np.clip(y, 0, height - 1).astype(int), np.clip(x, 0, width - 1).astype(int)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & kept
    if not inside.any():
        return np.zeros(shape, np.int32)
    canvas = np.ones(shape, np.uint8)
    canvas[row[inside], column[inside]] = 0
    _, labels = cv2.distanceTransformWithLabels(canvas, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    return np.asarray(labels, np.int32)


def _bent(labels: NDArray[np.int32], bend: float, rng: np.random.Generator) -> NDArray[np.int32]:
    height, width = labels.shape
    y, x = np.indices(labels.shape, np.float32)
    x += bend * smooth_noise((height, width), 28, rng)
    y += bend * smooth_noise((height, width), 28, rng)
    column = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    row = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    return np.asarray(labels[row, column])


def _add_twins(
    brightness: Floats, labels: NDArray[np.int32], grains: config.Grains, rng: np.random.Generator
) -> None:
    """Change the contrast of a straight band in some grains."""
    count = int(labels.max()) + 1
    angle = rng.uniform(0, np.pi, count)
    offset = rng.uniform(0, grains.size, count)
    width = rng.uniform(0.05, 0.2, count) * grains.size
    step = grains.channelling * rng.standard_normal(count) * (rng.uniform(size=count) < grains.twins)
    y, x = np.indices(labels.shape, np.float32)
    along = x * np.cos(angle)[labels] + y * np.sin(angle)[labels]
    inside = np.mod(along - offset[labels], grains.size) < width[labels]
    brightness += (inside * step[labels]).astype(np.float32)


def _grooves(labels: NDArray[np.int32], depth: float) -> Floats:
    edge = np.ones(labels.shape, np.uint8)
    edge[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
    edge[1:][labels[1:] != labels[:-1]] = 0
    if edge.all():
        return np.zeros(labels.shape, np.float32)
    distance = cv2.distanceTransform(edge, cv2.DIST_L2, 3)
    return np.asarray(-depth * np.exp(-distance / 1.2), np.float32)
