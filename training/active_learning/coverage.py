"""The images whose neighbourhoods cover most of the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.active_learning.clusters import cluster

PURITY = 0.95
"""α of the paper: share of balls that must hold one cluster alone."""
_MOST = 8192  # points among which balls are counted: the graph has at most the square of it
_QUANTILES = np.linspace(0.001, 0.25, 25)  # of pairwise distances, tried as radius


def probcover(
    points: NDArray[Any],
    labeled: NDArray[np.bool_],
    candidates: NDArray[np.bool_],
    budget: int,
    radius: float,
    admit: Callable[[int], bool] = lambda row: True,
) -> list[tuple[int, float]]:
    """Up to `budget` rows with the share of the pool each newly covers, the largest first.

    ProbCover (Yehuda, Dekel, Hacohen & Weinshall, Active Learning Through a Covering Lens, NeurIPS 2022,
    algorithm 1): a point covers all within `radius` of it; what labelled points cover is covered. `points`
    (n, d) finite, `labeled` and `candidates` bool (n,). Above 8192 points a regular sample of the unlabelled
    ones stands for all. Ties go to the first.
    """
    rows = _considered(labeled)
    near = _within(points[rows], radius)
    covered = near[:, labeled[rows]].any(axis=1)
    open_to = candidates[rows].copy()
    gains = near[~covered].sum(axis=0, dtype=np.int64)
    chosen: list[tuple[int, float]] = []
    while len(chosen) < budget and open_to.any():
        place = int(np.where(open_to, gains, -1).argmax())
        open_to[place] = False
        if not admit(int(rows[place])):
            continue
        chosen.append((int(rows[place]), float(gains[place]) / len(rows)))
        newly = near[:, place] & ~covered
        covered |= newly
        gains -= near[newly].sum(axis=0, dtype=np.int64)
    return chosen


def pure_radius(points: NDArray[Any], clusters: int, seed: int, purity: float = PURITY) -> float:
    """The largest radius at which `purity` of all balls hold points of one k-means cluster alone.

    Section 4.2 of the paper, where the number of clusters is that of the classes. Looked for among quantiles
    of the distances, on 2048 points at most.
    """
    sample = np.asarray(points[:: -(-len(points) // 2048)] if len(points) else points, dtype=np.float32)
    if len(sample) < 2:
        return 0.0
    labels = cluster(sample, clusters, seed)
    distances = _distances(sample, sample)
    strangers = np.where(labels[:, None] != labels, distances, np.inf).min(axis=1)
    apart = distances[np.triu_indices(len(sample), 1)]
    found = 0.0
    for radius in np.quantile(apart, _QUANTILES):
        if np.mean(strangers > radius) < purity:
            break
        found = float(radius)
    return found or float(np.quantile(apart, _QUANTILES[0]))


def _considered(labeled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """All rows, or all labelled ones (half of the sample at most) and a regular sample of the others."""
    if len(labeled) <= _MOST:
        return np.arange(len(labeled))
    known = np.flatnonzero(labeled)
    known = known[:: max(1, -(-len(known) * 2 // _MOST))]
    others = np.flatnonzero(~labeled)
    return np.sort(np.concatenate([known, others[:: -(-len(others) // (_MOST - len(known)))]]))


def _within(points: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    values = np.asarray(points, dtype=np.float32)
    near = np.empty((len(values), len(values)), dtype=bool)
    for start in range(0, len(values), 1024):
        near[start : start + 1024] = _distances(values[start : start + 1024], values) <= radius
    np.fill_diagonal(near, val=True)
    return near


def _distances(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.metrics import pairwise_distances  # takes a second to import

    found: NDArray[np.float32] = pairwise_distances(some, others)
    return found
