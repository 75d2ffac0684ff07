"""From counts to the scores people read, each with its interval. Pure and seeded, numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Frozen
from training.scoring import metrics
from training.scoring.bootstrap import RESAMPLES, Drawn, Interval, interval, resample, sum_units, units
from training.scoring.boundary import boundary_f1


class Score(Frozen):
    """One number in [0, 1], and how sure it is."""

    value: float | None = None
    """None where there is nothing to score."""
    interval: Interval | None = None
    """None also where there is a single image: nothing can be said of others then."""


class ClassScores(Frozen):
    """Of one class."""

    name: str
    iou: Score
    dice: Score
    boundary_f1: Score
    precision: Score
    """Of its pixels."""
    recall: Score


class Scores(Frozen):
    """Of a model on some images; what each is, docs/evaluating.md says."""

    images: int
    groups: int
    miou: Score
    """This mean, as the two below, is over the classes that occur in the truth."""
    mean_dice: Score
    mean_boundary_f1: Score
    accuracy: Score
    classes: tuple[ClassScores, ...]
    resamples: int
    seed: int


Measure = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""Of a confusion (…, C, C) and boundary counts (…, C, 4)."""

_BY_CLASS: dict[str, Measure] = {
    "iou": lambda confusion, boundary: metrics.iou(confusion),
    "dice": lambda confusion, boundary: metrics.dice(confusion),
    "boundary_f1": lambda confusion, boundary: boundary_f1(boundary),
    "precision": lambda confusion, boundary: metrics.precision(confusion),
    "recall": lambda confusion, boundary: metrics.recall(confusion),
}
_OVERALL: dict[str, Measure] = {
    "miou": lambda confusion, boundary: metrics.miou(confusion),
    "mean_dice": lambda confusion, boundary: metrics.mean(
        metrics.in_truth(metrics.dice(confusion), confusion)
    ),
    "mean_boundary_f1": lambda confusion, boundary: metrics.mean(
        metrics.in_truth(boundary_f1(boundary), confusion)
    ),
    "accuracy": lambda confusion, boundary: metrics.accuracy(confusion),
}


def score(
    classes: Sequence[str],
    groups: Sequence[str],
    confusion: NDArray[np.int64],
    boundary: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Score images by their counts.

    `groups` names each image's group; `confusion` is (images, C, C); `boundary`, (images, C, 4), is what
    `boundary_counts` counted, None where it was not asked for.
    """
    unit, number = units(groups)
    if boundary is None:
        boundary = np.zeros((*confusion.shape[:2], 4), dtype=np.int64)
    # Side by side, so that both are of the same draws.
    counts = sum_units(np.concatenate([confusion, boundary], axis=2), unit)
    drawn = resample(counts, resamples, seed) if len(counts) > 1 else None
    sums = _Sums(counts.sum(axis=0).astype(np.float64), drawn)
    by_class = {name: sums.score(measure) for name, measure in _BY_CLASS.items()}
    return Scores(
        images=len(groups),
        groups=number,
        classes=tuple(
            ClassScores(name=name, **{key: scores[place] for key, scores in by_class.items()})
            for place, name in enumerate(classes)
        ),
        resamples=resamples if drawn is not None else 0,
        seed=seed,
        **{name: sums.score(measure)[0] for name, measure in _OVERALL.items()},
    )


@dataclass(frozen=True)
class _Sums:
    """Confusion and boundary counts side by side, (C, C + 4), and the same in every draw."""

    whole: Drawn
    drawn: Drawn | None

    def score(self, measure: Measure) -> list[Score]:
        values = np.atleast_1d(self._measured(measure, self.whole))
        if self.drawn is None:
            return [_score(value, None) for value in values]
        draws = self._measured(measure, self.drawn).reshape(len(self.drawn), -1)
        return [_score(value, draws[:, place]) for place, value in enumerate(values)]

    def _measured(self, measure: Measure, counts: Drawn) -> NDArray[Any]:
        classes = self.whole.shape[0]
        return measure(counts[..., :classes], counts[..., classes:])


def _score(value: float, draws: Drawn | None) -> Score:
    if np.isnan(value):
        return Score()
    return Score(value=float(value), interval=None if draws is None else interval(draws))
