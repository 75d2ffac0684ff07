"""Champion or challenger: a paired bootstrap on the frozen holdout. Pure and seeded.

Both models are scored on the same draws of `training.scoring.bootstrap`, so what makes an image hard for both
cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError
from training.scoring import metrics
from training.scoring.bootstrap import RESAMPLES, Drawn, Interval, interval, resample, sum_units, units
from training.scoring.evaluation import Evaluation

CONFIDENCE = 0.975
"""Share of the draws in which a class must have fallen, or the mean be lower, before we call it certain."""
TOLERANCE = 0.01
"""IoU a class or the mean may lose; an allowance for the chance in two trainings."""


class NotComparable(SRPUError):
    """Two evaluations that were not made with the same classes."""


class ClassChange(Frozen):
    """IoU of one class under both models; None where it does not occur in the holdout's truth."""

    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    """Challenger − champion."""
    interval: Interval | None = None
    fell: bool = False
    """True when it lost more than the tolerance in 97.5 % of the draws, and occurs in two groups or more."""


class Verdict(Frozen):
    """What the gate decided, and on what grounds. All IoUs are in [0, 1]."""

    decision: Literal["promote", "refuse"]
    judged: bool
    """False when there was nothing to compare with, or too little to judge on."""
    reason: str
    """One sentence for people."""
    champion_miou: float | None = None
    challenger_miou: float | None = None
    difference: float | None = None
    """Challenger − champion, in mIoU."""
    interval: Interval | None = None
    """Of the difference."""
    worse: float | None = None
    """Share of the draws in which the challenger's mIoU is below the champion's."""
    clearly_worse: float | None = None
    """Share of the draws in which it is below by more than the tolerance."""
    classes: dict[str, ClassChange] = Field(default_factory=dict)
    images: int = 0
    """Holdout images that were compared."""
    groups: int = 0
    """Groups those images come from; where it is 1, images were drawn instead of groups."""
    resamples: int = 0
    seed: int = 0


def judge(
    champion: Evaluation | None,
    challenger: Evaluation,
    min_images: int,
    seed: int,
    resamples: int = RESAMPLES,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Decide whether `challenger` replaces `champion`.

    - No champion: promote, not judged.
    - Fewer than `min_images` holdout images: promote, not judged; too few to tell.
    - Refuse when the IoU of any class fell by more than `tolerance` in 97.5 % of the draws, or when the mIoU
      is below the champion's in 97.5 % of the draws, or below by more than `tolerance` in half of them.
    - Else promote: with as many labels or more, a challenger that is not worse is the better informed one.

    Only images that both have answered count. Raises `NotComparable` for evaluations of other classes.
    """
    if champion is None:
        return Verdict(
            decision="promote",
            judged=False,
            reason="First model: there is no champion to compare with.",
            challenger_miou=challenger.miou,
            images=len(challenger.images),
            groups=len({image.group for image in challenger.images}),
        )
    facts = _compare(*_in_common(champion, challenger), seed, resamples, tolerance)
    if facts.images < min_images or facts.difference is None:
        return facts.model_copy(
            update={"reason": f"Not enough to judge: {facts.images} of {min_images} holdout images."}
        )
    decision, reason = _decide(facts)
    return facts.model_copy(update={"decision": decision, "judged": True, "reason": reason})


def _decide(facts: Verdict) -> tuple[Literal["promote", "refuse"], str]:
    change = (
        f"mIoU {_percent(facts.champion_miou)} → {_percent(facts.challenger_miou)} "
        f"on {facts.images} holdout images"
    )
    fallen = [
        f"{name} ({_percent(c.champion)} → {_percent(c.challenger)})"
        for name, c in facts.classes.items()
        if c.fell
    ]
    if fallen:
        return "refuse", f"Worse at {' and '.join(fallen)}; {change}."
    if facts.worse is not None and facts.worse >= CONFIDENCE:
        return "refuse", f"Worse in {facts.worse:.0%} of the draws: {change}."
    if facts.clearly_worse is not None and facts.clearly_worse > 0.5:
        return (
            "refuse",
            f"Likely clearly worse ({facts.clearly_worse:.0%} of the draws): {change}.",
        )
    return "promote", f"Not worse: {change}."


def _compare(
    champion: Evaluation, challenger: Evaluation, seed: int, resamples: int, tolerance: float
) -> Verdict:
    """All of the verdict but the decision."""
    unit, groups = units([image.group for image in challenger.images])
    before, after = sum_units(champion.counts(), unit), sum_units(challenger.counts(), unit)
    common = Verdict(
        decision="promote",
        judged=False,
        reason="",
        champion_miou=champion.miou,
        challenger_miou=challenger.miou,
        images=len(challenger.images),
        groups=groups,
    )
    if champion.miou is None or challenger.miou is None:
        return common  # not one labelled pixel
    drawn = resample(before, resamples, seed), resample(after, resamples, seed)
    changes = metrics.miou(drawn[1]) - metrics.miou(drawn[0])
    return common.model_copy(
        update={
            "difference": challenger.miou - champion.miou,
            "interval": interval(changes),
            "worse": _share_below(changes, 0.0),
            "clearly_worse": _share_below(changes, -tolerance),
            "classes": _by_class(challenger.classes, before, after, drawn, tolerance),
            "resamples": resamples,
            "seed": seed,
        }
    )


def _by_class(
    classes: Sequence[str],
    before: metrics.Counts,
    after: metrics.Counts,
    drawn: tuple[Drawn, Drawn],
    tolerance: float,
) -> dict[str, ClassChange]:
    scores_before, scores_after = (metrics.labelled_iou(counts.sum(axis=0)) for counts in (before, after))
    changes = metrics.labelled_iou(drawn[1]) - metrics.labelled_iou(drawn[0])
    # Where one unit holds all there is of a class, every draw says the same and proves nothing.
    telling = (before.sum(axis=2) > 0).sum(axis=0) > 1
    return {
        name: _class_change(
            scores_before[index], scores_after[index], changes[:, index], tolerance, bool(telling[index])
        )
        for index, name in enumerate(classes)
    }


def _class_change(
    before: float, after: float, changes: Drawn, tolerance: float, telling: bool
) -> ClassChange:
    if np.isnan(before) or np.isnan(after):
        return ClassChange()
    return ClassChange(
        champion=float(before),
        challenger=float(after),
        difference=float(after - before),
        interval=interval(changes),
        fell=telling and _share_below(changes, -tolerance) >= CONFIDENCE,
    )


def _share_below(values: Drawn, bound: float) -> float:
    """Over the draws in which the class (or any class) occurs at all."""
    finite = values[~np.isnan(values)]
    return float((finite < bound).mean()) if finite.size else 0.0


def _in_common(champion: Evaluation, challenger: Evaluation) -> tuple[Evaluation, Evaluation]:
    """Both, reduced to the images that both have answered, in one order."""
    if champion.classes != challenger.classes:
        raise NotComparable(
            f"The champion was evaluated on the classes {', '.join(champion.classes)}, the challenger on "
            f"{', '.join(challenger.classes)}; evaluate both with the same manifest."
        )
    keys = {image.key for image in champion.images} & {image.key for image in challenger.images}

    def reduced(evaluation: Evaluation) -> Evaluation:
        kept = (image for image in evaluation.images if image.key in keys)
        return evaluation.model_copy(update={"images": tuple(sorted(kept, key=lambda image: image.key))})

    return reduced(champion), reduced(challenger)


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f}"
