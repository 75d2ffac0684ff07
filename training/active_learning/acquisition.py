"""How much an image would teach: the model's uncertainty by pixel, pooled over the most uncertain area.

Every map is float32 (H, W) in [0, 1], 0 where the model is sure, from probabilities (C, H, W) that sum to 1
over C. A micrograph is mostly flat phases the model is sure of, so a plain mean would rank images by their
share of flat area. We take the mean over the most uncertain part alone, in the way nnActive's queries (Lüth
et al., TMLR 2025) score patches and not whole volumes. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
TOP_AREA = 0.05
"""Share of an image's pixels that make its score."""
LEAST_AREA = 0.001
"""Share of an image's pixels below which what is uncertain of a class counts in proportion only."""


def entropy_map(probabilities: NDArray[Any]) -> Map:
    """Entropy of each pixel over ln C: 0 where one class is certain, 1 where all are equally likely.

    Settles, Active Learning Literature Survey, 2009, section 3.1; Shannon, 1948. 0 for a single class.
    """
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for plane in probabilities:  # one class at a time: images are large
        values = plane.astype(np.float32, copy=False)
        # 0 · ln 0 is 0 by continuity.
        total -= values * np.log(values, out=np.zeros_like(total), where=values > 0)
    classes = len(probabilities)
    return np.clip(total / math.log(classes), 0.0, 1.0) if classes > 1 else total


def margin_map(probabilities: NDArray[Any]) -> Map:
    """1 − (most probable class − second most probable): 1 where two are equally likely.

    Scheffer, Decomain & Wrobel, Active Hidden Markov Models for Information Extraction, IDA 2001.
    """
    best, second = _two_largest(probabilities)
    return np.clip(1 - (best - second), 0.0, 1.0) if len(probabilities) > 1 else np.zeros_like(best)


def least_confidence_map(probabilities: NDArray[Any]) -> Map:
    """1 − probability of the most probable class, over the largest it can be, 1 − 1/C.

    Lewis & Gale, A Sequential Algorithm for Training Text Classifiers, SIGIR 1994.
    """
    classes = len(probabilities)
    best, _ = _two_largest(probabilities)
    return np.clip((1 - best) * (classes / (classes - 1)), 0.0, 1.0) if classes > 1 else np.zeros_like(best)


def bald_map(members: Iterable[NDArray[Any]]) -> Map:
    """What several answers to one image disagree in: entropy of the mean − mean entropy, over ln C.

    Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011; with dropout
    Gal, Islam & Ghahramani, Deep Bayesian Active Learning with Image Data, ICML 2017. `members` are
    probabilities (C, H, W), one at a time; flipped and turned images, dropout, or several models. Raises
    `ValueError` without any.
    """
    mean: NDArray[np.float32] | None = None
    entropies: Map | None = None
    count = 0
    for member in members:
        values = member.astype(np.float32, copy=False)
        mean = values.copy() if mean is None else np.add(mean, values, out=mean)
        entropies = entropy_map(values) if entropies is None else entropies + entropy_map(values)
        count += 1
    if mean is None or entropies is None:
        raise ValueError("There is no answer to measure disagreement among.")
    mean /= count
    return np.clip(entropy_map(mean) - entropies / np.float32(count), 0.0, 1.0)


UNCERTAINTY_MAPS: Mapping[str, Callable[[NDArray[Any]], Map]] = MappingProxyType(
    {"entropy": entropy_map, "margin": margin_map, "least_confidence": least_confidence_map}
)
"""By the name of the strategy that ranks by them; `bald` needs several answers."""


def pool_top_area(map: NDArray[Any], share: float = TOP_AREA) -> float:
    """Mean of the largest values of `map` (H, W): of `share` of its pixels, in (0, 1], at least one.

    Raises `ValueError` for an empty map or another share.
    """
    if map.size == 0 or not 0 < share <= 1:
        raise ValueError(f"Cannot pool {share} of a map of shape {map.shape}.")
    values: NDArray[Any] = map.reshape(-1)
    return float(_largest(values, max(1, round(share * values.size))).mean(dtype=np.float64))


def pool_by_class(map: Map, class_map: NDArray[np.uint8], classes: int, share: float = TOP_AREA) -> Map:
    """As `pool_top_area`, but among the pixels the model takes for each class: float32 (classes,).

    The class-wise score of ClaSP-PE (Lüth et al., 2026, arXiv 2601.13677): what is uncertain of a rare class
    is not drowned by the others. A class that takes less than `LEAST_AREA` of the image counts in proportion,
    lest one stray pixel make an image the first; one that does not occur is 0.
    """
    scores = np.zeros(classes, dtype=np.float32)
    least = max(1.0, LEAST_AREA * map.size)
    for index in range(classes):
        values = map[class_map == index]
        if values.size:
            largest = _largest(values, max(1, min(values.size, round(share * map.size))))
            scores[index] = largest.sum(dtype=np.float64) / max(float(largest.size), least)
    return scores


def entropy(probabilities: NDArray[Any]) -> float:
    """The score of an image from its probabilities (C, H, W), in [0, 1]: high = label it first."""
    return pool_top_area(entropy_map(probabilities))


def _largest(values: NDArray[Any], count: int) -> NDArray[Any]:
    if count >= values.size:
        return values
    return np.partition(values, values.size - count)[values.size - count :]


def _two_largest(probabilities: NDArray[Any]) -> tuple[Map, Map]:
    best = np.zeros(probabilities.shape[1:], dtype=np.float32)
    second = np.zeros_like(best)
    for plane in probabilities:
        values = plane.astype(np.float32, copy=False)
        np.maximum(second, np.minimum(best, values), out=second)
        np.maximum(best, values, out=best)
    return best, second
