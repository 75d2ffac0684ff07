"""What a model says of a pool, image by image, remembered: uncertainties, by class too, and areas."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.inference import Predictor
from training.active_learning.acquisition import (
    UNCERTAINTY_MAPS,
    Map,
    bald_map,
    entropy_map,
    pool_by_class,
    pool_top_area,
)

NAMES = (*UNCERTAINTY_MAPS, "bald")
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (model TEXT, digest TEXT, numbers BLOB NOT NULL,"
    " PRIMARY KEY (model, digest)) WITHOUT ROWID"
)


def answer(predictor: Predictor, stack: NDArray[Any], *, turned: bool) -> NDArray[np.float32]:
    """Of a stack (D, H, W): the four uncertainties, then by class entropy and area: float32 (4 + 2 C,).

    `bald` is NaN unless `turned`, which asks the model for the mirrored and the turned image as well.
    """
    said = predictor.predict(stack)
    classes = len(predictor.card.classes)
    maps = {name: make(said.probabilities) for name, make in UNCERTAINTY_MAPS.items()}
    bald = pool_top_area(bald_map(_members(predictor, stack, said.probabilities))) if turned else np.nan
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

    def put(self, model: str, digest: str, numbers: NDArray[np.float32]) -> None:
        """Remember."""
        with closing(self._connect()) as database, database:
            database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (model, digest, numbers.tobytes())
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=60)
