"""How much an image would teach: predictive entropy, pooled over its most uncertain area. numpy only.

Entropy of the predicted distribution is uncertainty sampling in its plainest form (Settles, Active Learning
Literature Survey, 2009, section 3.1). A micrograph is mostly flat phases the model is sure of, so a plain
mean would rank images by their share of flat area. We take the mean over the most uncertain part alone, in
the way nnActive's queries (Lüth et al., TMLR 2025) score patches and not whole volumes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP_AREA = 0.05
"""Share of an image's pixels that make its score."""


def entropy_map(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Entropy of each pixel over ln C: float (C, H, W), summing to 1 over C → float32 (H, W) in [0, 1].

    0 where one class is certain, 1 where all are equally likely; 0 everywhere for a single class.
    """
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for plane in probabilities:  # one class at a time: images are large
        values = plane.astype(np.float32, copy=False)
        # 0 · ln 0 is 0 by continuity.
        total -= values * np.log(values, out=np.zeros_like(total), where=values > 0)
    classes = len(probabilities)
    return np.clip(total / math.log(classes), 0.0, 1.0) if classes > 1 else total


def pool_top_area(map: NDArray[Any], share: float = TOP_AREA) -> float:
    """Mean of the largest values of `map` (H, W): of `share` of its pixels, in (0, 1], at least one.

    Raises `ValueError` for an empty map or another share.
    """
    if map.size == 0 or not 0 < share <= 1:
        raise ValueError(f"Cannot pool {share} of a map of shape {map.shape}.")
    values: NDArray[Any] = map.reshape(-1)
    count = max(1, round(share * values.size))
    if count < values.size:
        values = np.partition(values, values.size - count)[values.size - count :]
    return float(values.mean(dtype=np.float64))


def entropy(probabilities: NDArray[Any]) -> float:
    """The score of an image from its probabilities (C, H, W), in [0, 1]: high = label it first."""
    return pool_top_area(entropy_map(probabilities))
