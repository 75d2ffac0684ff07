"""A region corrected by clicks: random walks with priors, on a window around it.

Grady 2006 (PAMI 28:1768) with the prior term of Grady 2005 (CVPR, eq. 11): a pixel belongs to the region with
the probability that a walker starting there, which crosses edges of the image reluctantly, reaches a positive
click before a negative one, or is absorbed by the region as it was before. Around a click that contradicts
the region as it was, the prior is taken back, so that edges and clicks decide there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from srpu_backend.interactive.image_state import ImageState
from srpu_backend.interactive.prompts import Box, Click

Field = NDArray[np.float64]
Area = tuple[slice, slice]

NODES = 6_000
"""Pixels of the window at most; a larger region is looked at at a lower resolution."""
_EDGE = 300.0
"""Grady's β for grey stretched to [0, 1]."""
_SLOWEST = 2e-3
"""Weight of the strongest edge: distance counts too."""
_PRIOR = 0.004
"""Of a region that a click contradicts: faint, so that the click is heard."""
_PRIOR_OF_PROPOSALS = 0.02
_DOUBT = 0.25
"""The prior says 0.25 or 0.75: the more doubt, the further a click carries."""
_HARD = 50.0
_REACH = 2.5
"""Of a click's distance to the outline: how far it takes back the prior."""
_LEAST_REACH = 6.0
_MARGIN = 12
_MARGIN_SHARE = 0.4


@dataclass(frozen=True)
class _Problem:
    planes: tuple[Field, ...]
    """Grey, and probability where there is one: (h, w) in [0, 1]."""
    prior: Field
    confidence: Field
    seeds: list[tuple[int, int, float]]
    """Row, column, and 1 for inside."""


def correct(
    state: ImageState,
    region: NDArray[np.bool_],
    clicks: Sequence[Click],
    wrong: Sequence[bool],
    box: Box | None = None,
    class_index: int | None = None,
) -> NDArray[np.bool_]:
    """`region` (H, W) as `clicks` want it; `wrong` tells the clicks that contradict it."""
    return _walked(state, region, clicks, wrong, box, class_index, _PRIOR)


def snapped(
    state: ImageState,
    region: NDArray[np.bool_],
    clicks: Sequence[Click],
    box: Box | None = None,
    class_index: int | None = None,
) -> NDArray[np.bool_]:
    """`region` (H, W) with its outline drawn to the nearest edges."""
    return _walked(state, region, clicks, [False] * len(clicks), box, class_index, _PRIOR_OF_PROPOSALS)


def _walked(
    state: ImageState,
    region: NDArray[np.bool_],
    clicks: Sequence[Click],
    wrong: Sequence[bool],
    box: Box | None,
    class_index: int | None,
    prior: float,
) -> NDArray[np.bool_]:
    area = _area(region, clicks, box)
    rows, columns = area
    height, width = rows.stop - rows.start, columns.stop - columns.start
    factor = max(1.0, float(np.sqrt(height * width / NODES)))
    size = max(1, round(width / factor)), max(1, round(height / factor))
    problem = _problem(state, region[area], clicks, wrong, area, size, class_index, prior)
    inside = _solve(problem).astype(np.float32)
    large = cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5
    corrected = np.zeros_like(region)
    corrected[area] = large
    return corrected


def _area(region: NDArray[np.bool_], clicks: Sequence[Click], box: Box | None) -> Area:
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    ys = [*(c.y for c in clicks), *(rows[[0, -1]].tolist() if rows.size else [])]
    xs = [*(c.x for c in clicks), *(columns[[0, -1]].tolist() if columns.size else [])]
    if box is not None:
        ys, xs = [*ys, box.y0, box.y1 - 1], [*xs, box.x0, box.x1 - 1]
    margin = int(_MARGIN + _MARGIN_SHARE * max(max(ys) - min(ys), max(xs) - min(xs)))
    top, left = max(0, min(ys) - margin), max(0, min(xs) - margin)
    return (
        slice(top, min(region.shape[0], max(ys) + margin + 1)),
        slice(left, min(region.shape[1], max(xs) + margin + 1)),
    )


def _problem(
    state: ImageState,
    region: NDArray[np.bool_],
    clicks: Sequence[Click],
    wrong: Sequence[bool],
    area: Area,
    size: tuple[int, int],
    class_index: int | None,
    strength: float,
) -> _Problem:
    grey = _shrunk(state.grey[0][area].astype(np.float32), size)
    low, high = np.percentile(grey, (2, 98))
    grey = (cv2.GaussianBlur(grey, (0, 0), 1.0) - low) / max(float(high - low), 65535 * 0.05)
    planes = [grey.astype(np.float64)]
    if class_index is not None and class_index < len(state.probabilities):
        probability = state.probabilities[class_index][0][area].astype(np.float32)
        planes.append(_shrunk(probability, size).astype(np.float64) / 255)
    prior = np.clip(_shrunk(region.astype(np.float32), size), _DOUBT, 1 - _DOUBT)
    confidence = np.full(prior.shape, strength)
    scale = np.array(size) / region.shape[::-1]
    rows, columns = np.mgrid[: size[1], : size[0]]
    seeds = []
    for click, contradicts in zip(clicks, wrong, strict=True):
        at = np.array([click.x - area[1].start, click.y - area[0].start])
        column, row = np.minimum(at * scale, np.array(size) - 1).astype(int).tolist()
        seeds.append((row, column, float(click.positive)))
        if contradicts:
            reach = max(_LEAST_REACH, _REACH * _distance_to_outline(region, at)) * float(scale.min())
            confidence *= 1 - np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / reach**2)
    return _Problem(tuple(planes), prior.astype(np.float64), confidence, seeds)


def _shrunk(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32).reshape(size[::-1])


def _distance_to_outline(region: NDArray[np.bool_], at: NDArray[np.intp]) -> float:
    """px from a point to the nearest pixel on the other side of the outline."""
    same = region == region[at[1], at[0]]
    if same.all():
        return 0.0
    return float(cv2.distanceTransform(same.astype(np.uint8), cv2.DIST_L2, 3)[at[1], at[0]])


def _solve(problem: _Problem) -> Field:
    """(h, w): probability of being inside, from (L + diag(confidence)) x = confidence · prior."""
    shape = problem.prior.shape
    right, down = np.zeros(shape), np.zeros(shape)
    right[:, :-1] = np.exp(-_EDGE * _squared_steps(problem.planes, 1)) + _SLOWEST
    down[:-1] = np.exp(-_EDGE * _squared_steps(problem.planes, 0)) + _SLOWEST
    weight, target = problem.confidence.copy(), problem.confidence * problem.prior
    for row, column, value in problem.seeds:
        weight[row, column] += _HARD
        target[row, column] += _HARD * value
    diagonal = weight + right + down
    diagonal[:, 1:] += right[:, :-1]
    diagonal[1:] += down[:-1]
    a, b = -right.ravel()[:-1], -down.ravel()[: -shape[1] or None]
    bands = [diagonal.ravel(), a, a, b, b]
    offsets = [0, 1, -1, shape[1], -shape[1]]
    if shape[1] == 1 or shape[0] == 1:  # a line: one of the two directions is empty
        a = a if shape[0] == 1 else b
        bands, offsets = [diagonal.ravel(), a, a], [0, 1, -1]
    if min(shape) == 1 and diagonal.size == 1:
        return np.asarray(target / diagonal, np.float64)
    system = sparse.diags(bands, offsets, format="csc")
    # Direct: with so faint a prior, conjugate gradients need hundreds of iterations.
    found = spsolve(system, target.ravel(), permc_spec="MMD_AT_PLUS_A")
    return np.asarray(found, np.float64).reshape(shape)


def _squared_steps(planes: tuple[Field, ...], axis: int) -> Field:
    """Squared distance of neighbours along an axis, over all planes."""
    squared: Field = np.square(np.diff(np.stack(planes), axis=axis + 1)).sum(axis=0)
    return squared
