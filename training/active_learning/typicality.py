"""The most typical image of each kind: what to label while there is next to no label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 20
"""K of the paper's typicality."""
_EPSILON = 1e-7
_MOST = 4096  # members of one cluster among which neighbours are looked for


def typiclust(
    points: NDArray[Any],
    clusters: NDArray[np.int32],
    labeled: NDArray[np.bool_],
    candidates: NDArray[np.bool_],
    budget: int,
    admit: Callable[[int], bool] = lambda row: True,
    neighbours: int = NEIGHBOURS,
) -> list[tuple[int, float]]:
    """Up to `budget` rows with their typicality: one of each cluster in turn, the most typical first.

    TypiClust (Hacohen, Dekel & Weinshall, Active Learning on a Budget, ICML 2022). `points` (n, d) finite,
    `clusters` int32 (n,), `labeled` and `candidates` bool (n,). Clusters with the fewest labels come first,
    among them the largest; then the second most typical of each, and so on. `admit` is asked before a row is
    taken; one refused is never asked for again.
    """
    labels = np.bincount(clusters[labeled], minlength=int(clusters.max(initial=-1)) + 1)
    sizes = np.bincount(clusters, minlength=len(labels))
    order = np.lexsort((np.arange(len(sizes)), -sizes, labels))
    members = {
        int(index): _by_typicality(points, np.flatnonzero(clusters == index), candidates, neighbours)
        for index in order
        if sizes[index]
    }
    chosen: list[tuple[int, float]] = []
    taken = labels.astype(np.int64)
    while members and len(chosen) < budget:
        index = min(members, key=lambda each: (int(taken[each]), -int(sizes[each]), each))
        found = next((pair for pair in members[index] if admit(pair[0])), None)
        if found is None:
            del members[index]
            continue
        taken[index] += 1
        chosen.append(found)
    return chosen


def typicality(points: NDArray[Any], neighbours: int = NEIGHBOURS) -> NDArray[np.float64]:
    """1 / mean distance of each of `points` (n, d) to its nearest ones: float64 (n,); 1 where alone."""
    from sklearn.neighbors import NearestNeighbors  # takes a second to import

    if len(points) < 2:
        return np.ones(len(points))
    neighbours = min(neighbours, len(points) - 1)
    values = np.asarray(points, dtype=np.float32)
    distances, _ = NearestNeighbors(n_neighbors=neighbours + 1).fit(values).kneighbors(values)
    typical: NDArray[np.float64] = neighbours / (distances.sum(axis=1, dtype=np.float64) + _EPSILON)
    return typical


def _by_typicality(
    points: NDArray[Any], members: NDArray[np.int64], candidates: NDArray[np.bool_], neighbours: int
) -> Iterator[tuple[int, float]]:
    """The candidates of a cluster, most typical first; computed when the first is asked for."""
    if len(members) > _MOST:  # every so-manieth: density is a matter of proportion
        members = members[:: -(-len(members) // _MOST)]
    typical = typicality(points[members], neighbours)
    for place in np.lexsort((members, -typical)):
        if candidates[members[place]]:
            yield int(members[place]), float(typical[place])
