"""What more labels would bring: the curve of a score against the number of labels, drawn on by a power law.

`score(n) = ceiling − loss · n^(−rate)`, as learning curves are known to run (Hestness et al., Deep Learning
Scaling is Predictable, Empirically, 2017; Viering & Loog, The Shape of Learning Curves, TPAMI 2023).
The interval is of a parametric bootstrap: the points are drawn anew around the curve and fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_POINTS = 3
"""Versions with different numbers of labels below which nothing is told: the curve has three parameters."""
_RATES = np.geomspace(0.1, 2.0, 25)
_LEAST_NOISE = 0.01
"""Deviation that a score has at least: three points lie on some curve exactly, which says nothing."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """The score of one version."""

    labels: int
    score: float
    """In [0, 1], such as the mIoU on the holdout."""


@dataclass(frozen=True)
class Gain:
    """What is expected of more labels."""

    labels: int
    """How many more."""
    expected: float
    """Of the score; at least 0."""
    low: float
    high: float
    """Between them nine of ten draws."""
    at: int
    """Labels there are."""


@dataclass(frozen=True)
class Curve:
    """One fitted curve."""

    ceiling: float
    loss: float
    rate: float

    def at(self, labels: Floats) -> Floats:
        """The score at numbers of labels from 1 on: float64, same shape."""
        values: Floats = self.ceiling - self.loss * labels**-self.rate
        return values


def fit(labels: Floats, scores: Floats) -> Curve:
    """Least squares over ceiling in [0, 1], loss ≥ 0 and rate in [0.1, 2]: (n,), (n,); n ≥ 1, labels ≥ 1."""
    best, least = Curve(float(np.clip(scores.mean(), 0, 1)), 0.0, 1.0), np.inf
    for rate in _RATES:
        found = _at_rate(labels, scores, float(rate))
        error = float(((found.at(labels) - scores) ** 2).sum())
        if error < least - 1e-15:
            best, least = found, error
    return best


def expected_gain(points: Sequence[Measured], more: int = 10, draws: int = 200, seed: int = 0) -> Gain | None:
    """What `more` labels would add to the score; None below three different numbers of labels.

    Of several versions with the same number of labels all count.
    """
    known = sorted((p for p in points if p.labels >= 1), key=lambda point: point.labels)
    labels = np.array([point.labels for point in known], float)
    scores = np.array([point.score for point in known], float)
    if len(np.unique(labels)) < FEWEST_POINTS:
        return None
    curve = fit(labels, scores)
    drawn = curve.at(labels)
    spare = max(1, len(known) - FEWEST_POINTS)
    noise = max(_LEAST_NOISE, float(np.sqrt(((scores - drawn) ** 2).sum() / spare)))
    rng = np.random.default_rng(seed)
    ahead = np.array([labels.max(), labels.max() + more])
    gains = [_rise(fit(labels, drawn + rng.normal(0, noise, len(known))), ahead) for _ in range(draws)]
    low, high = np.percentile(gains, (5, 95))
    return Gain(more, _rise(curve, ahead), float(low), float(high), int(labels.max()))


def _rise(curve: Curve, ahead: Floats) -> float:
    before, after = curve.at(ahead)
    return float(after - before)


def _at_rate(labels: Floats, scores: Floats, rate: float) -> Curve:
    """Straight line in n^(−rate), its ends held in bounds."""
    falling = labels**-rate
    offset = falling - falling.mean()
    spread = float(offset @ offset)
    loss = max(0.0, -float(offset @ scores) / spread) if spread > 0 else 0.0
    ceiling = float(scores.mean() + loss * falling.mean())
    if ceiling > 1.0:  # no score is above 1: the line through it there
        ceiling = 1.0
        loss = max(0.0, float(falling @ (1.0 - scores)) / float(falling @ falling))
    return Curve(max(0.0, ceiling), loss, rate)
