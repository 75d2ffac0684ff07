"""The strategies by name, and what each needs to know of the images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from training.active_learning.coreset import k_center
from training.active_learning.coverage import probcover, pure_radius
from training.active_learning.pool import Admission, Answers, Mask, Pick, Pool
from training.active_learning.typicality import typiclust

FOREGROUND_SHARE = 2 / 3
"""Of what `foreground_random` draws: the share drawn by class."""
FOREGROUND_AREA = 0.001
"""Share of an image that a class must take to count as present."""


class UnknownStrategy(SRPUError):
    """A strategy nobody knows."""


class StrategyNeedsModel(SRPUError):
    """A strategy that ranks by predictions, without a model."""

    @classmethod
    def of(cls, name: str) -> StrategyNeedsModel:
        """The error for one strategy."""
        return cls(
            f"The strategy {name} ranks by what a model is unsure of; give one with --model, or choose "
            "hybrid, typiclust, coreset or probcover, which need none."
        )


@dataclass(frozen=True)
class Turn:
    """What a strategy is asked for."""

    candidates: Mask
    """(n,): the rows it may choose."""
    budget: int
    admission: Admission
    clusters: NDArray[np.int32]
    """(n,); −1 for an image without embedding."""
    rng: np.random.Generator

    def free(self) -> Mask:
        """Candidates that may still be chosen."""
        return self.admission.free(self.candidates)


@dataclass(frozen=True)
class Strategy:
    """A way of choosing."""

    name: str
    about: str
    choose: Callable[[Pool, Turn], list[Pick]]
    """Up to `turn.budget` picks, best first; fewer where not so many may be chosen."""
    needs_embeddings: bool = False
    needs_answers: bool = False
    needs_members: bool = False
    """Several answers for each image."""
    per_group: int | None = None
    """How many of one sequence may be in a batch unless told otherwise."""
    control: float = 0.0
    """Share of a batch that is left to chance."""


def random(pool: Pool, turn: Turn) -> list[Pick]:
    """Uniformly at random: the yardstick of Settles, Active Learning Literature Survey, 2009, section 6.1."""
    order = turn.rng.permutation(np.flatnonzero(turn.free()))
    picks: list[Pick] = []
    for row in order:
        if len(picks) >= turn.budget:
            break
        if turn.admission.take(int(row)):
            picks.append(Pick(int(row), 0.0, "random"))
    return picks


def foreground_random(pool: Pool, turn: Turn) -> list[Pick]:
    """At random, two thirds of it by class: draw a class, then an image in which the model sees it.

    The foreground-aware random of nnActive (Lüth et al., TMLR 2025), which no other query beat reliably
    there. Without a model, plain random.
    """
    if pool.answers is None:
        return random(pool, turn)
    answers = pool.answers
    picks: list[Pick] = []
    present = _present(answers)
    open_classes = [index for index in range(len(answers.classes)) if index != answers.background]
    free = turn.free()
    while len(picks) < turn.budget and free.any():
        about, rows = -1, np.flatnonzero(free)
        if open_classes and turn.rng.random() < FOREGROUND_SHARE:
            about = int(turn.rng.choice(open_classes))
            rows = np.flatnonzero(free & present[:, about])
            if not rows.size:
                open_classes.remove(about)
                continue
        row = int(turn.rng.choice(rows))
        if turn.admission.take(row):
            picks.append(Pick(row, 0.0, "random", about=about))
            free[turn.admission.closed_by(row)] = False
        free[row] = False
    return picks


def uncertainty(name: str) -> Callable[[Pool, Turn], list[Pick]]:
    """Most uncertain first, by a map of `training.active_learning.acquisition`; ties by key."""

    def choose(pool: Pool, turn: Turn) -> list[Pick]:
        scores = answers_of(pool, name).uncertainty[name]
        return [replace(pick, measure=name) for pick in in_order(scores, turn)]

    return choose


def in_order(scores: NDArray[Any], turn: Turn) -> list[Pick]:
    """The candidates with the highest of `scores` (n,), larger first; NaN never."""
    rows = np.flatnonzero(turn.free() & np.isfinite(scores))
    picks: list[Pick] = []
    for row in rows[np.argsort(-scores[rows], kind="stable")]:
        if len(picks) >= turn.budget:
            break
        if turn.admission.take(int(row)):
            picks.append(Pick(int(row), float(scores[row]), "uncertain"))
    return picks


def coreset(pool: Pool, turn: Turn) -> list[Pick]:
    """Farthest from all that is labelled or chosen: exact greedy k-center (Sener & Savarese, ICLR 2018)."""
    points = embeddings_of(pool)
    known = np.flatnonzero((turn.clusters >= 0) & pool.labeled)
    centers = np.concatenate([known, np.array(turn.admission.taken, np.int64)])
    centers = centers[turn.clusters[centers] >= 0]
    cover = k_center(points, turn.budget, centers, turn.free(), turn.admission.take, turn.admission.closed_by)
    return [Pick(int(row), float(far), "far") for row, far in zip(cover.rows, cover.distances, strict=True)]


def typical(pool: Pool, turn: Turn) -> list[Pick]:
    """The most typical of each kind of image, kinds without labels first: TypiClust (ICML 2022)."""
    points, rows = _embedded(pool, turn)
    chosen = typiclust(
        points,
        turn.clusters[rows],
        pool.labeled[rows],
        turn.free()[rows],
        turn.budget,
        lambda place: turn.admission.take(int(rows[place])),
    )
    return [Pick(int(rows[place]), score, "typical") for place, score in chosen]


def cover(pool: Pool, turn: Turn) -> list[Pick]:
    """Those whose neighbourhood covers most of what is uncovered: ProbCover (NeurIPS 2022).

    The radius is the largest at which neighbourhoods stay within one k-means cluster; as many clusters as
    the model has classes, and the 2 to 10 of the paper's data sets without one.
    """
    points, rows = _embedded(pool, turn)
    kinds = len(pool.answers.classes) if pool.answers else 10
    radius = pure_radius(points, kinds, int(turn.rng.integers(2**31)))
    chosen = probcover(
        points,
        pool.labeled[rows],
        turn.free()[rows],
        turn.budget,
        radius,
        lambda place: turn.admission.take(int(rows[place])),
    )
    return [Pick(int(rows[place]), share, "cover") for place, share in chosen]


def answers_of(pool: Pool, name: str) -> Answers:
    """The model's answers; raises `StrategyNeedsModel` where there are none of that name."""
    if pool.answers is None or (name not in pool.answers.uncertainty):
        raise StrategyNeedsModel.of(name)
    return pool.answers


def embeddings_of(pool: Pool) -> NDArray[Any]:
    """The embeddings; raises `ValueError` where a caller left them out."""
    if pool.embeddings is None:
        raise ValueError("This strategy ranks by embeddings, and the pool has none.")
    return pool.embeddings


def _embedded(pool: Pool, turn: Turn) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The usable embeddings, and the rows they are of."""
    rows = np.flatnonzero(turn.clusters >= 0)
    points = embeddings_of(pool)
    return (points if len(rows) == len(points) else points[rows]), rows


def _present(answers: Answers) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        present: NDArray[np.bool_] = answers.areas >= FOREGROUND_AREA
    return present


def find_strategy(name: str) -> Strategy:
    """The strategy of that name, however it is spelt; raises `UnknownStrategy` with the likeliest one."""
    known = strategies()
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in known:
        return known[plain]
    close = difflib.get_close_matches(plain, known, 1, 0.5)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(known)}."
    raise UnknownStrategy(f"There is no strategy {name!r}; {hint}")


def strategies() -> Mapping[str, Strategy]:
    """All of them, by name; the first is the default."""
    from training.active_learning.hybrid import CONTROL_SHARE, hybrid  # it is made of those here

    listed = (
        Strategy(
            "hybrid",
            "typical first, then uncertain by class, spread out",
            hybrid,
            needs_embeddings=True,
            needs_answers=True,
            per_group=1,
            control=CONTROL_SHARE,
        ),
        Strategy("random", "uniformly at random", random),
        Strategy("foreground_random", "at random, rare classes more often", foreground_random, False, True),
        Strategy("entropy", "most uncertain by entropy", uncertainty("entropy"), False, True),
        Strategy("margin", "smallest margin of two classes", uncertainty("margin"), False, True),
        Strategy("least_confidence", "least confident", uncertainty("least_confidence"), False, True),
        Strategy("bald", "turned images answered differently", uncertainty("bald"), False, True, True),
        Strategy("coreset", "farthest from all that is labelled", coreset, True),
        Strategy("typiclust", "the most typical of each kind", typical, True),
        Strategy("probcover", "those that cover most of the pool", cover, True),
    )
    return MappingProxyType({strategy.name: strategy for strategy in listed})
