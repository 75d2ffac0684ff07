"""What a choice is made from: all images, labelled or not, as arrays. And what is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Arm = Literal["strategy", "control"]
CONTROL: Arm = "control"


@dataclass(frozen=True)
class Answers:
    """What a model says of the images; NaN where it was not asked (labelled ones) or could not answer."""

    classes: tuple[str, ...]
    background: int
    """Index of the class that stands for nothing in particular; −1 when there is none."""
    uncertainty: Mapping[str, NDArray[np.float32]]
    """`entropy`, `margin`, `least_confidence`, and `bald` where it was asked for: (n,) in [0, 1]."""
    by_class: NDArray[np.float32]
    """(n, C): entropy pooled over the pixels taken for each class."""
    areas: NDArray[np.float32]
    """(n, C): share of the image taken for each class."""


@dataclass(frozen=True)
class Pool:
    """All images, in the order of their keys, so that a choice depends on nothing but what they are."""

    keys: Sequence[str]
    """Unique, ascending."""
    labeled: Mask
    """(n,)"""
    groups: NDArray[np.int64]
    """(n,): images of one sequence share a number, others have one of their own."""
    embeddings: NDArray[Any] | None = None
    """(n, d) float16 or float32, in memory or memory-mapped; a row that is not finite is no embedding."""
    answers: Answers | None = None
    descriptions: NDArray[np.uint8] | None = None
    """(n, bytes) of `training.data.near_duplicates.describe`; zeros where there is nothing to see."""

    def __post_init__(self) -> None:
        count = len(self.keys)
        if any(one >= other for one, other in zip(self.keys, self.keys[1:], strict=False)):
            raise ValueError("The keys of a pool must be unique and ascending.")
        for array in (self.labeled, self.groups, self.embeddings, self.descriptions):
            if array is not None and len(array) != count:
                raise ValueError(f"A pool of {count} images has an array of {len(array)} rows.")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def unlabeled(self) -> Mask:
        """(n,)"""
        return ~self.labeled

    def embedded(self) -> Mask:
        """(n,): which images have a usable embedding."""
        if self.embeddings is None:
            return np.zeros(len(self), bool)
        usable = np.empty(len(self), bool)
        for start in range(0, len(self), 8192):
            usable[start : start + 8192] = np.isfinite(self.embeddings[start : start + 8192]).all(axis=1)
        return usable


@dataclass(frozen=True)
class Pick:
    """One chosen image."""

    row: int
    score: float
    """In the strategy's own measure; larger is more wanted. Scores of several strategies do not compare."""
    cause: Literal["random", "class", "uncertain", "far", "typical", "cover", "last"]
    arm: Arm = "strategy"
    about: int = -1
    """The class that is uncertain, where `cause` is `class`; that was drawn, where it is `random`."""
    measure: str = "entropy"
    """Which uncertainty the score is, where `cause` is `uncertain`."""


@dataclass
class Admission:
    """Who may still join the batch: a few of each sequence, and none that shows what another shows."""

    groups: NDArray[np.int64]
    per_group: int | None = None
    alike: Callable[[int, Sequence[int]], bool] = lambda row, taken: False
    """Whether an image shows the same as one of several others."""
    taken: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    """Rows refused since they show what is taken already."""
    _gone: set[int] = field(default_factory=set)
    _by_group: Counter[int] = field(default_factory=Counter)

    def take(self, row: int) -> bool:
        """Whether a row may join; if so it has."""
        group = int(self.groups[row])
        if row in self._gone or self._is_full(group):
            return False
        self._gone.add(row)
        if self.alike(row, self.taken):
            self.duplicates.append(row)
            return False
        self._by_group[group] += 1
        self.taken.append(row)
        return True

    def closed_by(self, row: int) -> NDArray[np.int64]:
        """Rows that cannot join any more now that `row` has: the rest of its sequence."""
        if not self._is_full(int(self.groups[row])):
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.groups == self.groups[row])

    def free(self, candidates: Mask) -> Mask:
        """Those of `candidates` that may still join, as far as that is known: a new array."""
        full = [group for group in self._by_group if self._is_full(group)]
        left: Mask = candidates & ~np.isin(self.groups, full)
        left[list(self._gone)] = False
        return left

    def room(self, candidates: Mask) -> int:
        """How many of `candidates` may still join if none shows what another shows."""
        free = self.free(candidates)
        if self.per_group is None:
            return int(free.sum())
        groups, sizes = np.unique(self.groups[free], return_counts=True)
        left = [self.per_group - self._by_group[int(group)] for group in groups]
        return int(np.minimum(sizes, left).sum()) if left else 0

    def _is_full(self, group: int) -> bool:
        return self.per_group is not None and self._by_group[group] >= self.per_group
