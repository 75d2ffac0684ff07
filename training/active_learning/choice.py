"""A batch from a pool: who may be chosen, in which order of preference, and who goes last and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.active_learning.clusters import cluster
from training.active_learning.pool import Admission, Mask, Pick, Pool
from training.active_learning.strategies import Strategy, Turn, random
from training.data.near_duplicates import shown_among


@dataclass(frozen=True)
class Batch:
    """What was chosen."""

    picks: tuple[Pick, ...]
    clusters: NDArray[np.int32]
    """(n,): the kind of each image, −1 without embedding."""
    duplicates: tuple[int, ...]
    """Rows passed over since they show what is in the batch already."""
    notes: tuple[str, ...]
    """Sentences for people: why there are fewer than asked for, what was left to chance."""


def choose(pool: Pool, strategy: Strategy, budget: int, seed: int, per_group: int | None = None) -> Batch:
    """Up to `budget` unlabelled images, best first; none twice, no near-duplicates of one another.

    Images that show what is labelled already come after all others; those the strategy cannot judge, for
    want of an embedding or an answer, come last, at random. `per_group` bounds how many of one sequence are
    in the batch (default: the strategy's own; 0 for no bound). The same pool, strategy and seed give the
    same batch.
    """
    limit = strategy.per_group if per_group is None else per_group or None
    admission = Admission(pool.groups, limit, near_duplicates_of(pool))
    rng = np.random.default_rng(seed)
    places = min(budget, admission.room(pool.unlabeled))
    clusters = _clusters(pool, places - round(strategy.control * places), seed)
    picks: list[Pick] = []
    for tier, judged in _tiers(pool, strategy, clusters):
        turn = Turn(tier, budget - len(picks), admission, clusters, rng)
        if turn.budget <= 0 or not tier.any():
            continue
        if judged:
            picks += strategy.choose(pool, turn)
        else:
            picks += [replace(pick, cause="last") for pick in random(pool, turn)]
    notes = _notes(pool, picks, budget, limit, admission)
    return Batch(tuple(picks), clusters, tuple(admission.duplicates), notes)


def near_duplicates_of(pool: Pool) -> Callable[[int, Sequence[int]], bool]:
    """Whether a row of the pool shows the same as one of several others."""
    descriptions = pool.descriptions
    if descriptions is None:
        return lambda row, taken: False
    return lambda row, taken: bool(shown_among(descriptions[row : row + 1], descriptions[list(taken)])[0])


def _tiers(pool: Pool, strategy: Strategy, clusters: NDArray[np.int32]) -> list[tuple[Mask, bool]]:
    """Candidates by preference, and whether the strategy can judge them."""
    judged = pool.unlabeled
    if strategy.needs_embeddings and pool.embeddings is not None:
        judged = judged & (clusters >= 0)
    if strategy.needs_answers and pool.answers is not None:
        judged = judged & np.isfinite(pool.answers.uncertainty["entropy"])
    known = judged & _shown_already(pool)
    return [(judged & ~known, True), (known, True), (pool.unlabeled & ~judged, False)]


def _shown_already(pool: Pool) -> Mask:
    """Unlabelled images that are near-duplicates of labelled ones."""
    if pool.descriptions is None or not pool.labeled.any():
        return np.zeros(len(pool), bool)
    shown = shown_among(pool.descriptions, pool.descriptions[pool.labeled])
    return shown & pool.unlabeled


def _clusters(pool: Pool, places: int, seed: int) -> NDArray[np.int32]:
    """As many kinds as there are labels and places to fill, as in TypiClust: each kind has its place."""
    clusters = np.full(len(pool), -1, np.int32)
    usable = pool.embedded()
    if pool.embeddings is not None and usable.any():
        points = pool.embeddings if usable.all() else pool.embeddings[usable]
        clusters[usable] = cluster(points, int(pool.labeled.sum()) + places, seed)
    return clusters


def _notes(
    pool: Pool, picks: Sequence[Pick], budget: int, limit: int | None, admission: Admission
) -> tuple[str, ...]:
    open_images = int(pool.unlabeled.sum())
    if not len(pool):
        return ("There are no images to rank.",)
    if not open_images:
        return (f"All {len(pool)} images are labelled; there is nothing left to rank.",)
    if len(picks) >= budget:
        return ()
    reasons = [f"there are {open_images} without a label"]
    if admission.duplicates:
        reasons.append(f"{len(admission.duplicates)} show the same as another in the batch")
    if limit is not None and len(picks) + len(admission.duplicates) < open_images:
        reasons.append(f"at most {limit} of one sequence may be in a batch (--per-sequence)")
    return (f"{len(picks)} images are ranked and not {budget}: {'; '.join(reasons)}.",)
