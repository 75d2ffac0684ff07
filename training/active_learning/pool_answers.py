"""What a model says of a pool, image by image, remembered: uncertainties, by class too, and areas."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.inference import Predictor, Segmentation
from training.active_learning.acquisition import (
    UNCERTAINTY_MAPS,
    Map,
    bald_map,
    entropy_map,
    pool_by_class,
    pool_top_area,
)

NAMES = (*UNCERTAINTY_MAPS, "bald")
_AT_ONCE = 500  # SQLite's variables in one question
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (model TEXT, digest TEXT, numbers BLOB NOT NULL,"
    " PRIMARY KEY (model, digest)) WITHOUT ROWID"
)


def answer(predictor: Predictor, stack: NDArray[Any], *, turned: bool) -> NDArray[np.float32]:
    """Of a stack (D, H, W): the four uncertainties, then by class entropy and area: float32 (4 + 2 C,).

    `bald` is NaN unless `turned`, which asks the model for the mirrored and the turned image as well.
    """
    said = predictor.predict(stack)
    bald = pool_top_area(bald_map(_members(predictor, stack, said.probabilities))) if turned else math.nan
    return numbers_of(said, len(predictor.card.classes), bald)


def numbers_of(said: Segmentation, classes: int, bald: float = math.nan) -> NDArray[np.float32]:
    """Of what a model said already: the numbers of `answer`, float32 (4 + 2 C,)."""
    maps = {name: make(said.probabilities) for name, make in UNCERTAINTY_MAPS.items()}
    areas = np.bincount(said.class_map.reshape(-1), minlength=classes)[:classes] / said.class_map.size
    pooled = [pool_top_area(each) for each in maps.values()]
    by_class = pool_by_class(maps["entropy"], said.class_map, classes)
    return np.concatenate([pooled, [bald], by_class, areas]).astype(np.float32)


def uncertain_map(predictor: Predictor, stack: NDArray[Any]) -> Map:
    """Entropy of each pixel: float32 (H, W) in [0, 1]."""
    return entropy_map(predictor.predict(stack).probabilities)


def _members(
    predictor: Predictor, stack: NDArray[Any], plain: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Test-time augmentation: the image, mirrored both ways, and turned by half; each turned back."""
    yield plain
    for axes in ((1,), (2,), (1, 2)):
        turned = predictor.predict(np.ascontiguousarray(np.flip(stack, axes))).probabilities
        yield np.flip(turned, axes)


class AnswerCache:
    """Answers by model and image content, in SQLite; each is kept as soon as it is there."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(self._connect()) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(_SCHEMA)

    def get(self, model: str, digest: str, *, turned: bool) -> NDArray[np.float32] | None:
        """What the model said of the image; None where it was not asked, or not for turned ones."""
        with closing(self._connect()) as database:
            query = "SELECT numbers FROM answers WHERE model = ? AND digest = ?"
            row = database.execute(query, (model, digest)).fetchone()
        numbers = None if row is None else np.frombuffer(row[0], np.float32)
        if numbers is None or (turned and np.isnan(numbers[NAMES.index("bald")])):
            return None
        return numbers

    def many(self, model: str, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """What the model said of each image it was asked about; `bald` may be NaN."""
        found: dict[str, NDArray[np.float32]] = {}
        with closing(self._connect()) as database:
            for start in range(0, len(digests), _AT_ONCE):
                some = digests[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT digest, numbers FROM answers WHERE model = ? AND digest IN ({marks})"  # noqa: S608
                rows = database.execute(query, (model, *some))
                found.update((digest, np.frombuffer(numbers, np.float32)) for digest, numbers in rows)
        return found

    def put(self, model: str, digest: str, numbers: NDArray[np.float32]) -> None:
        """Remember."""
        with closing(self._connect()) as database, database:
            database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (model, digest, numbers.tobytes())
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=60)
