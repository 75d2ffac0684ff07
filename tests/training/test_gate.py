"""The gate: who replaces whom, and on what evidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.gate import NotComparable, Verdict, judge
from training.scoring.evaluation import Evaluation, ImageScore

pytestmark = pytest.mark.fast
CLASSES = ("matrix", "particle", "pore")
PIXELS = 10_000


def confusion_at(accuracy: list[float], size: int = PIXELS) -> list[list[int]]:
    """Each class has `size` pixels; what is wrong goes to the next class."""
    counts = np.zeros((len(accuracy), len(accuracy)), dtype=int)
    for index, share in enumerate(accuracy):
        counts[index, index] = round(share * size)
        counts[index, (index + 1) % len(accuracy)] = size - counts[index, index]
    return counts.tolist()


def evaluation(images: list[list[list[int]]], groups: list[str] | None = None) -> Evaluation:
    groups = groups or [f"group-{n}" for n in range(len(images))]
    return Evaluation(
        model="v0001-abcdef",
        part="holdout",
        classes=CLASSES,
        images=tuple(
            ImageScore(key=f"task-{n}", group=group, confusion=tuple(map(tuple, counts)))
            for n, (counts, group) in enumerate(zip(images, groups, strict=True))
        ),
    )


def at(*accuracies: float, groups: list[str] | None = None) -> Evaluation:
    """One image for each accuracy, the same for every class."""
    return evaluation([confusion_at([accuracy] * 3) for accuracy in accuracies], groups)


counts = st.lists(
    st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=3, max_size=3),
    min_size=1,
    max_size=8,
)


def test_the_first_model_is_promoted_without_being_judged() -> None:
    verdict = judge(None, at(0.3, 0.4), min_images=1, seed=0)
    assert (verdict.decision, verdict.judged) == ("promote", False)
    assert "irst model" in verdict.reason
    assert verdict.challenger_miou is not None


def test_the_first_model_needs_no_holdout() -> None:
    verdict = judge(None, evaluation([]), min_images=3, seed=0)
    assert (verdict.decision, verdict.challenger_miou, verdict.images) == ("promote", None, 0)


@pytest.mark.parametrize("images", [0, 1, 2])
def test_below_the_minimum_the_gate_says_that_it_cannot_judge(images: int) -> None:
    verdict = judge(at(*[0.9] * images), at(*[0.1] * images), min_images=3, seed=0)
    assert (verdict.decision, verdict.judged) == ("promote", False)
    assert verdict.reason == f"Not enough to judge: {images} of 3 holdout images."


@given(counts, st.integers(0, 5))
@settings(max_examples=40)
def test_an_equal_challenger_is_promoted(images: list[list[list[int]]], seed: int) -> None:
    verdict = judge(evaluation(images), evaluation(images), min_images=1, seed=seed, resamples=200)
    assert verdict.decision == "promote"
    assert verdict.difference in (None, 0.0)


def test_an_obviously_worse_challenger_is_refused() -> None:
    verdict = judge(at(0.9, 0.92, 0.88, 0.9), at(0.7, 0.75, 0.7, 0.72), min_images=3, seed=0)
    assert (verdict.decision, verdict.judged) == ("refuse", True)
    assert verdict.worse == 1.0
    assert verdict.interval is not None
    assert verdict.interval.high < 0


def test_an_obviously_better_challenger_is_promoted() -> None:
    verdict = judge(at(0.7, 0.75, 0.7), at(0.9, 0.92, 0.88), min_images=3, seed=0)
    assert (verdict.decision, verdict.judged, verdict.worse) == ("promote", True, 0.0)


def test_one_class_that_falls_is_enough_to_refuse() -> None:
    champion = evaluation([confusion_at([0.8, 0.8, 0.9], 1000 + n) for n in range(6)])
    challenger = evaluation([confusion_at([0.99, 0.99, 0.7], 1000 + n) for n in range(6)])
    verdict = judge(champion, challenger, min_images=3, seed=0)
    assert verdict.difference is not None
    assert verdict.difference > 0
    assert verdict.decision == "refuse"
    assert "pore" in verdict.reason
    assert [name for name, change in verdict.classes.items() if change.fell] == ["pore"]


def test_a_class_may_lose_less_than_the_tolerance() -> None:
    champion = evaluation([confusion_at([0.8, 0.8, 0.900]) for _ in range(6)])
    challenger = evaluation([confusion_at([0.9, 0.9, 0.895]) for _ in range(6)])
    assert judge(champion, challenger, min_images=3, seed=0).decision == "promote"


def test_a_class_seen_in_one_group_alone_proves_nothing() -> None:
    nothing = [[100, 5, 0], [5, 100, 0], [0, 0, 0]]
    before = evaluation([nothing, nothing, [[100, 0, 0], [0, 100, 0], [0, 10, 90]]])
    better = [[105, 0, 0], [0, 105, 0], [0, 0, 0]]
    after = evaluation([better, better, [[100, 0, 0], [0, 100, 0], [0, 15, 85]]])
    verdict = judge(before, after, min_images=3, seed=0)
    assert not verdict.classes["pore"].fell
    assert verdict.decision == "promote"


def test_a_loss_in_nearly_all_draws_is_refused_however_small() -> None:
    verdict = judge(at(0.9, 0.9, 0.9), at(0.898, 0.899, 0.8985), min_images=3, seed=0)
    assert verdict.decision == "refuse"
    assert not any(change.fell for change in verdict.classes.values())


def test_a_clear_loss_is_refused_when_it_is_likelier_than_not() -> None:
    verdict = judge(at(0.8, 0.8, 0.8, 0.8), at(0.7, 0.84, 0.7, 0.84), min_images=3, seed=0)
    assert verdict.worse is not None
    assert verdict.worse < 0.975
    assert verdict.decision == "refuse"
    assert not any(change.fell for change in verdict.classes.values())


def test_chance_alone_refuses_nobody() -> None:
    verdict = judge(at(0.8, 0.8, 0.8, 0.8), at(0.785, 0.81, 0.79, 0.81), min_images=3, seed=0)
    assert verdict.difference is not None
    assert -0.01 < verdict.difference < 0
    assert verdict.decision == "promote"


def test_groups_are_drawn_and_not_their_images() -> None:
    """Nine near-copies of a bad image and one good one: two independent facts, not ten."""
    champion = at(*[0.8] * 10)
    challenger_scores = [0.82] * 9 + [0.6]
    alone = judge(champion, at(*challenger_scores), min_images=3, seed=0)
    groups = ["sequence"] * 9 + ["other"]
    grouped = judge(at(*[0.8] * 10, groups=groups), at(*challenger_scores, groups=groups), 3, 0)
    assert grouped.groups == 2
    assert alone.interval is not None
    assert grouped.interval is not None
    assert grouped.interval.low < alone.interval.low


def test_a_single_group_is_judged_by_its_images() -> None:
    groups = ["only"] * 5
    champion = at(0.80, 0.81, 0.79, 0.80, 0.82, groups=groups)
    verdict = judge(champion, at(0.85, 0.79, 0.84, 0.83, 0.86, groups=groups), 3, 0)
    assert verdict.groups == 1
    assert verdict.interval is not None
    assert verdict.interval.low < verdict.interval.high


@given(counts, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_champion_and_challenger_are_treated_alike(images: list[list[list[int]]], random: object) -> None:
    other = [
        [row[shift:] + row[:shift] for row in image]
        for image, shift in zip(images, (n % 3 for n in range(len(images))), strict=True)
    ]
    forth = judge(evaluation(images), evaluation(other), min_images=1, seed=1, resamples=200)
    back = judge(evaluation(other), evaluation(images), min_images=1, seed=1, resamples=200)
    assert forth.champion_miou == back.challenger_miou
    if forth.difference is not None and forth.interval is not None and back.interval is not None:
        assert forth.difference == pytest.approx(-(back.difference or 0))
        assert forth.interval.low == pytest.approx(-back.interval.high)
        assert forth.worse is not None
        assert back.worse is not None
        assert forth.worse + back.worse <= 1


def test_the_same_seed_gives_the_same_verdict() -> None:
    champion, challenger = at(0.8, 0.7, 0.9, 0.6), at(0.79, 0.75, 0.88, 0.66)
    assert judge(champion, challenger, 3, seed=4) == judge(champion, challenger, 3, seed=4)
    assert judge(champion, challenger, 3, seed=4) != judge(champion, challenger, 3, seed=5)


def test_the_order_of_images_does_not_matter() -> None:
    champion, challenger = at(0.8, 0.7, 0.9), at(0.85, 0.6, 0.92)
    shuffled = champion.model_copy(update={"images": champion.images[::-1]})
    assert judge(shuffled, challenger, 3, seed=0) == judge(champion, challenger, 3, seed=0)


def test_only_images_that_both_have_answered_count() -> None:
    champion = at(0.9, 0.9, 0.9, 0.9)
    challenger = at(0.95, 0.95, 0.95, 0.95)
    partial = champion.model_copy(update={"images": champion.images[:2]})
    verdict = judge(partial, challenger, min_images=3, seed=0)
    assert (verdict.judged, verdict.images) == (False, 2)


def test_other_classes_cannot_be_compared() -> None:
    other = at(0.9).model_copy(update={"classes": ("matrix", "particle", "crack")})
    with pytest.raises(NotComparable, match=r"pore.*crack"):
        judge(at(0.9), other, min_images=1, seed=0)


@given(counts, counts)
@settings(max_examples=40)
def test_every_verdict_survives_json(one: list[list[list[int]]], other: list[list[list[int]]]) -> None:
    size = min(len(one), len(other))
    verdict = judge(evaluation(one[:size]), evaluation(other[:size]), 1, seed=0, resamples=50)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
