"""The default: typical and diverse while there are few labels, then uncertain by class and spread out.

With next to no labels a model's doubts are noise, and typical images teach most (Hacohen et al., ICML 2022).
Later the queries of ClaSP-PE (Lüth et al., Finally Outshining the Random Baseline, TMLR 2026, arXiv
2601.13677), the only one in nnActive's 24 settings that beat foreground-aware random: two thirds of the
budget by class, power noise that fades as labels come. Its shortlist is thinned by k-center, since frames of
one recording are uncertain together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.active_learning.coreset import FarthestFirst
from training.active_learning.pool import CONTROL, Answers, Mask, Pick, Pool
from training.active_learning.strategies import Turn, foreground_random, random, typical

COLD_BELOW = 20
"""Labels below which a model's doubts are not asked for."""
CONTROL_SHARE = 0.15
"""Of a batch, drawn as `foreground_random` draws: shows whether the ranking helps."""
CLASS_SHARE = 2 / 3
SHORTLIST = 3
"""Candidates for each place, of which k-center takes the most different ones."""
BETA = (1.0, 100.0)
"""Power of the scores: at `COLD_BELOW` labels, and from `SHARP_FROM` on, geometric between."""
SHARP_FROM = 200
_OVERALL = -1


def hybrid(pool: Pool, turn: Turn) -> list[Pick]:
    """A batch, the control arm spread evenly through it. Falls back on random where nothing is known."""
    turn = replace(turn, budget=min(turn.budget, turn.admission.room(turn.candidates)))
    control = round(CONTROL_SHARE * turn.budget) if turn.budget > 2 else 0
    main = _main(pool, replace(turn, budget=turn.budget - control))
    drawn = foreground_random(pool, replace(turn, budget=control))
    drawn = [replace(pick, arm=CONTROL) for pick in drawn]
    short = turn.budget - len(main) - len(drawn)  # what the one arm left over the other may have had
    main += _main(pool, replace(turn, budget=short)) if short > 0 else []
    return interleaved(main, drawn)


def power(labels: int) -> float:
    """β for a number of labels: 1 draws by score, 100 takes the highest scores."""
    progress = (labels - COLD_BELOW) / (SHARP_FROM - COLD_BELOW)
    low, high = BETA
    return float(low * (high / low) ** min(1.0, max(0.0, progress)))


def interleaved(main: list[Pick], control: list[Pick]) -> list[Pick]:
    """The control picks at even distances among the others, so that any first part holds its share."""
    total = len(main) + len(control)
    places = {int((index + 0.5) * total / len(control)) for index in range(len(control))}
    ours, drawn = iter(main), iter(control)
    return [next(drawn) if place in places else next(ours) for place in range(total)]


def _main(pool: Pool, turn: Turn) -> list[Pick]:
    embedded = turn.clusters >= 0
    if pool.answers is not None and int(pool.labeled.sum()) >= COLD_BELOW:
        return _uncertain(pool, pool.answers, turn, embedded)
    if embedded.any():
        return typical(pool, replace(turn, candidates=turn.candidates & embedded))
    return random(pool, turn)


@dataclass(frozen=True)
class _Wanted:
    """A place on the shortlist."""

    row: int
    stratum: int
    score: float


def _uncertain(pool: Pool, answers: Answers, turn: Turn, embedded: Mask) -> list[Pick]:
    quotas = _quotas(answers, turn)
    shortlist = _shortlist(answers, turn, quotas, power(int(pool.labeled.sum())))
    order = _spread(pool, turn, shortlist, embedded)
    picks: list[Pick] = []
    for by_quota in (True, False):  # what one class left over goes to the others
        for wanted in order:
            if len(picks) >= turn.budget:
                return picks
            if by_quota and not quotas[wanted.stratum]:
                continue
            if turn.admission.take(wanted.row):
                quotas[wanted.stratum] -= 1
                cause = "class" if wanted.stratum != _OVERALL else "uncertain"
                picks.append(Pick(wanted.row, wanted.score, cause, about=wanted.stratum))  # type: ignore[arg-type]
    if len(picks) < turn.budget and (turn.free() & np.isfinite(answers.uncertainty["entropy"])).any():
        picks += _uncertain(pool, answers, replace(turn, budget=turn.budget - len(picks)), embedded)
    return picks


def _quotas(answers: Answers, turn: Turn) -> Counter[int]:
    """Places for each class that occurs, rarest first where they don't share evenly; the rest for all."""
    free = turn.free()
    areas = np.nan_to_num(answers.areas[free]).sum(axis=0)
    classes = [int(index) for index in np.argsort(areas, kind="stable") if areas[index] > 0]
    by_class = round(CLASS_SHARE * turn.budget) if classes else 0
    quotas = Counter({index: by_class // len(classes) for index in classes})
    for index in classes[: by_class % len(classes) if classes else 0]:
        quotas[index] += 1
    quotas[_OVERALL] = turn.budget - by_class
    return quotas


def _shortlist(answers: Answers, turn: Turn, quotas: Counter[int], beta: float) -> list[_Wanted]:
    """The likeliest rows under p ∝ score^β, of each stratum; a row stands where it was found first.

    Drawing without replacement by p is ordering by β ln score + Gumbel noise (Kirsch et al., Stochastic Batch
    Acquisition, TMLR 2023).
    """
    open_rows = turn.free() & np.isfinite(answers.uncertainty["entropy"])
    found: dict[int, _Wanted] = {}
    for stratum, places in quotas.items():
        scores = answers.uncertainty["entropy"] if stratum == _OVERALL else answers.by_class[:, stratum]
        rows = np.flatnonzero(open_rows)
        noisy = beta * np.log(np.maximum(scores[rows], 1e-9)) + turn.rng.gumbel(size=len(rows))
        likeliest = rows[np.argsort(-noisy, kind="stable")][: SHORTLIST * places]
        for row in likeliest.tolist():
            found[row] = _Wanted(row, stratum, float(scores[row]))
            open_rows[row] = False
    return list(found.values())


def _spread(pool: Pool, turn: Turn, shortlist: list[_Wanted], embedded: Mask) -> list[_Wanted]:
    """The shortlist, the most different from everything labelled and chosen first."""
    if pool.embeddings is None or len(shortlist) < 2:
        return shortlist
    rows = np.array(sorted(wanted.row for wanted in shortlist if embedded[wanted.row]), np.int64)
    known = np.flatnonzero(pool.labeled & embedded)
    chosen = [row for row in turn.admission.taken if embedded[row]]
    centers = np.concatenate([known, np.array(chosen, np.int64)]).astype(np.int64)
    points = _rows(pool.embeddings, np.concatenate([rows, centers]))
    farthest = FarthestFirst(points, np.arange(len(rows), len(points)))
    by_row = {wanted.row: wanted for wanted in shortlist}
    order: list[_Wanted] = []
    while (found := farthest.next()) is not None:
        order.append(by_row.pop(int(rows[found[0]])))
        farthest.add(found[0])
        farthest.dismiss(found[0])
    return order + list(by_row.values())


def _rows(embeddings: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(embeddings[rows], dtype=np.float32)
