"""Kinds of images: k-means on embeddings, of any number of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.active_learning.coreset import blocks

MAX_CLUSTERS = 500
"""As in TypiClust; more only split kinds that an annotator would call one."""
_SAMPLE = 20_000  # points the centres are found on; all points are then assigned
_EXACT = 50  # up to so many clusters, Lloyd's algorithm; beyond, mini-batches (Sculley, WWW 2010)


def cluster(points: NDArray[Any], count: int, seed: int) -> NDArray[np.int32]:
    """Cluster of each of `points` (n, d), all finite: int32 (n,), 0 … at most `count` − 1, all in use.

    k-means++ and Lloyd (Arthur & Vassilvitskii, SODA 2007), on a sample of 20 000 where there are more.
    Equal points and seeds give equal clusters.
    """
    count = max(1, min(count, len(points), MAX_CLUSTERS))
    if count == 1 or len(points) == 0:
        return np.zeros(len(points), np.int32)
    sample = _sample(points, seed)
    count = min(count, len(np.unique(sample, axis=0)))
    centers = _fit(sample, count, seed)
    own = np.einsum("ij,ij->i", centers, centers)
    labels = np.empty(len(points), np.int32)
    for start, block in blocks(points):
        labels[start : start + len(block)] = (own - 2 * (block @ centers.T)).argmin(axis=1)
    return np.unique(labels, return_inverse=True)[1].astype(np.int32).reshape(-1)


def _sample(points: NDArray[Any], seed: int) -> NDArray[np.float32]:
    if len(points) <= _SAMPLE:
        return np.asarray(points, dtype=np.float32)
    rows = np.sort(np.random.default_rng(seed).choice(len(points), _SAMPLE, replace=False))
    return np.asarray(points[rows], dtype=np.float32)


def _fit(points: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans, MiniBatchKMeans  # takes a second to import

    if count <= _EXACT:
        model = KMeans(count, n_init=3, random_state=seed)
    else:
        model = MiniBatchKMeans(count, n_init=3, batch_size=4096, random_state=seed)
    centers: NDArray[np.float32] = np.asarray(model.fit(points).cluster_centers_, dtype=np.float32)
    return centers
