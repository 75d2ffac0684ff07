"""A batch from a pool: what holds of every strategy, and what the default does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micrograph_folders import texture

from training.active_learning.choice import Batch, choose
from training.active_learning.hybrid import interleaved, power
from training.active_learning.pool import CONTROL, Answers, Pick, Pool
from training.active_learning.strategies import (
    StrategyNeedsModel,
    UnknownStrategy,
    find_strategy,
    strategies,
)
from training.data.near_duplicates import describe

pytestmark = pytest.mark.fast
CLASSES = ("matrix", "pore", "crack")


def pool_of(seed: int, count: int = 40, labels: int = 0, per_film: int = 4, answers: bool = True) -> Pool:
    """Films of `per_film` images; three classes, of which the last is rare."""
    rng = np.random.default_rng(seed)
    labeled = np.zeros(count, bool)
    labeled[rng.permutation(count)[:labels]] = True
    said = None
    if answers:
        by_class = rng.random((count, 3)).astype(np.float32)
        areas = np.tile(np.array([[0.8, 0.2, 0.0]], np.float32), (count, 1))
        areas[:: max(1, count // 6), 2] = 0.01
        by_class[areas == 0] = 0
        names = ("entropy", "margin", "least_confidence", "bald")
        said = Answers(CLASSES, 0, {name: rng.random(count).astype("f4") for name in names}, by_class, areas)
    return Pool(
        keys=[f"{row:05d}" for row in range(count)],
        labeled=labeled,
        groups=np.arange(count) // per_film,
        embeddings=rng.normal(size=(count, 6)).astype(np.float32),
        answers=said,
    )


def rows(batch: Batch) -> list[int]:
    return [pick.row for pick in batch.picks]


@pytest.mark.parametrize("name", list(strategies()))
@given(
    seed=st.integers(0, 99),
    labels=st.sampled_from([0, 3, 25, 40]),
    budget=st.integers(1, 50),
    per_group=st.sampled_from([None, 0, 1, 2]),
)
@settings(max_examples=12, deadline=None)
def test_no_batch_is_wrong(name: str, seed: int, labels: int, budget: int, per_group: int | None) -> None:
    pool = pool_of(seed, labels=labels)
    strategy = find_strategy(name)
    batch = choose(pool, strategy, budget, seed, per_group)
    chosen = rows(batch)
    assert len(set(chosen)) == len(chosen) <= budget
    assert not pool.labeled[chosen].any()
    limit = (strategy.per_group if per_group is None else per_group) or 4
    open_rows = np.flatnonzero(pool.unlabeled)
    _, sizes = np.unique(pool.groups[open_rows], return_counts=True)
    assert len(chosen) == min(budget, int(np.minimum(sizes, limit).sum()))
    assert all(count <= limit for count in np.unique(pool.groups[chosen], return_counts=True)[1])
    assert bool(batch.notes) == (len(chosen) < budget)
    assert rows(choose(pool, strategy, budget, seed, per_group)) == chosen


@pytest.mark.parametrize("name", ["entropy", "margin", "least_confidence", "bald"])
def test_the_most_uncertain_come_first_and_ties_by_key(name: str) -> None:
    pool = pool_of(1)
    assert pool.answers is not None
    scores = pool.answers.uncertainty[name]
    scores[[30, 4, 17]] = 2
    found = rows(choose(pool, find_strategy(name), 10, 0))
    assert found[:3] == [4, 17, 30]
    assert found == sorted(range(40), key=lambda row: (-scores[row], row))[:10]


def test_few_labels_typical_ones_many_labels_uncertain_classes() -> None:
    hybrid = find_strategy("hybrid")
    cold = choose(pool_of(2, 400, labels=19), hybrid, 20, 0)
    warm = choose(pool_of(2, 400, labels=20), hybrid, 20, 0)
    assert {pick.cause for pick in cold.picks if pick.arm != CONTROL} == {"typical"}
    causes = [pick.cause for pick in warm.picks if pick.arm != CONTROL]
    assert set(causes) == {"class", "uncertain"}
    assert causes.count("class") == pytest.approx(2 / 3 * len(causes), abs=1)
    rare = [pick for pick in warm.picks if pick.about == 2 and pick.cause == "class"]
    assert len(rare) >= 3, "the rare class has its share, although it is seen in one image of 66"


def test_a_fixed_share_is_left_to_chance_and_evenly_spread() -> None:
    batch = choose(pool_of(3, 400, labels=30), find_strategy("hybrid"), 40, 0)
    places = [place for place, pick in enumerate(batch.picks) if pick.arm == CONTROL]
    assert len(places) == 6
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    assert {pick.cause for pick in batch.picks if pick.arm == CONTROL} == {"random"}


def test_late_the_most_uncertain_win_early_chance_has_a_say() -> None:
    assert (power(0), power(20), power(10_000)) == (1, 1, 100)
    assert power(20) < power(60) < power(150) < power(200)
    pool = pool_of(4, 1200, labels=300)
    assert pool.answers is not None
    scores = pool.answers.uncertainty["entropy"]
    batch = choose(pool, find_strategy("hybrid"), 12, 0)
    late = [scores[pick.row] for pick in batch.picks if pick.cause == "uncertain"]
    assert min(late) > np.quantile(scores[pool.unlabeled], 0.97)


def test_control_is_woven_in() -> None:
    main = [Pick(row, 0, "far") for row in range(8)]
    control = [Pick(row, 0, "random", CONTROL) for row in (8, 9)]
    assert [pick.row for pick in interleaved(main, control)] == [0, 1, 8, 2, 3, 4, 5, 9, 6, 7]
    assert interleaved(main, []) == main


def test_random_by_class_finds_the_rare_one() -> None:
    pool = pool_of(5, 600)
    assert pool.answers is not None
    seen = pool.answers.areas[:, 2] > 0
    batch = choose(pool, find_strategy("foreground_random"), 12, 0, 0)
    assert seen[rows(batch)].sum() >= 2
    assert seen.mean() < 0.02


def test_what_cannot_be_compared_goes_last() -> None:
    pool = pool_of(6, 20)
    assert pool.embeddings is not None
    pool.embeddings[[2, 11]] = np.nan
    batch = choose(pool, find_strategy("coreset"), 20, 0)
    assert set(rows(batch)[-2:]) == {2, 11}
    assert [pick.cause for pick in batch.picks[-2:]] == ["last", "last"]
    assert (batch.clusters[[2, 11]] == -1).all()


def test_all_embeddings_unusable_is_no_crash() -> None:
    pool = pool_of(6, 12, answers=False)
    assert pool.embeddings is not None
    pool.embeddings[:] = np.inf
    assert len(choose(pool, find_strategy("hybrid"), 12, 0, 0).picks) == 12


@pytest.mark.parametrize("name", list(strategies()))
def test_no_image_shows_what_another_of_the_batch_shows(name: str) -> None:
    images = [texture(seed) for seed in (0, 0, 1, 2, 2, 3)]
    images[1] = np.clip(images[0] * 0.8 + 9, 0, 255).astype(np.uint8)
    raw = b"".join(describe(image) or b"" for image in images)
    descriptions = np.frombuffer(raw, np.uint8).reshape(6, -1)
    pool = replace(pool_of(7, 6, per_film=1), descriptions=descriptions)
    batch = choose(pool, find_strategy(name), 6, 0)
    kinds = [(0, 0, 1, 2, 2, 3)[row] for row in rows(batch)]
    assert sorted(kinds) == [0, 1, 2, 3]
    assert len(batch.duplicates) == 2
    assert "show the same" in batch.notes[0]


def test_what_is_labelled_already_waits_behind_the_rest() -> None:
    raw = b"".join(describe(texture(seed)) or b"" for seed in (0, 0, 1, 2))
    descriptions = np.frombuffer(raw, np.uint8).reshape(4, -1)
    pool = replace(pool_of(8, 4, per_film=1), descriptions=descriptions)
    pool.labeled[0] = True
    assert rows(choose(pool, find_strategy("random"), 3, 0))[-1] == 1


def test_nothing_to_rank_is_said() -> None:
    assert "no images" in choose(pool_of(0, 0), find_strategy("hybrid"), 5, 0).notes[0]
    assert "All 6 images are labelled" in choose(pool_of(0, 6, 6), find_strategy("coreset"), 5, 0).notes[0]


def test_a_typo_is_answered_with_the_right_name() -> None:
    with pytest.raises(UnknownStrategy, match="did you mean entropy"):
        find_strategy("entrpy")
    with pytest.raises(UnknownStrategy, match="choose one of hybrid"):
        find_strategy("xyz")
    assert find_strategy("Least-Confidence").name == "least_confidence"


def test_uncertainty_without_a_model_is_refused() -> None:
    with pytest.raises(StrategyNeedsModel, match="--model"):
        choose(pool_of(0, 8, answers=False), find_strategy("margin"), 2, 0)


def test_a_pool_has_one_order_of_keys() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Pool(["b", "a"], np.zeros(2, bool), np.arange(2))
