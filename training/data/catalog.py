"""The working table of an index: every file found, in SQLite on disk, so that memory stays constant."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from training.data.names import uploaded_stem

_SCHEMA = """
CREATE TABLE images (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, name TEXT NOT NULL, stem TEXT NOT NULL, rank INTEGER NOT NULL,
    folder TEXT NOT NULL, sequence TEXT, frame INTEGER,
    key TEXT, usable INTEGER NOT NULL DEFAULT 1, width INTEGER, height INTEGER, bits INTEGER, digest TEXT,
    cluster INTEGER, grp TEXT, mask TEXT, mask_digest TEXT);
CREATE INDEX images_by_name ON images (name);
CREATE INDEX images_by_stem ON images (stem);
CREATE INDEX images_by_uploaded_stem ON images (uploaded_stem(stem));
CREATE TABLE masks (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, name TEXT NOT NULL, stem TEXT NOT NULL,
    base TEXT NOT NULL, base_stem TEXT NOT NULL, class TEXT NOT NULL, image INTEGER, whole INTEGER);
CREATE TABLE drawings (path TEXT PRIMARY KEY, results TEXT NOT NULL);
CREATE INDEX masks_by_name ON masks (name);
CREATE INDEX masks_by_base ON masks (base);
"""
_PAGES = -4096  # kB of SQLite's cache: constant, whatever the number of images
_BATCH = 500


class Catalog:
    """A temporary database; a context manager that removes its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(path)
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("uploaded_stem", 1, uploaded_stem, deterministic=True)
        self._connection.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = {_PAGES};"
            "PRAGMA temp_store = FILE;" + _SCHEMA
        )

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._path.unlink(missing_ok=True)

    def run(self, statement: str, *values: Any) -> int:
        """Run a statement that changes rows; returns how many."""
        return self._connection.execute(statement, values).rowcount

    def run_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values, which may be a stream."""
        self._connection.executemany(statement, rows)

    def one(self, query: str, *values: Any) -> Any:
        """The first column of the first row; None where there is none."""
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def rows(self, query: str, *values: Any) -> Iterator[sqlite3.Row]:
        """The rows of a query that nothing writes to while it is read."""
        yield from self._connection.execute(query, values)

    def batches(self, table: str, where: str = "1") -> Iterator[list[sqlite3.Row]]:
        """Rows in the order of their ids, some hundred at a time; they may be changed in between."""
        last = -1
        while True:
            query = f"SELECT * FROM {table} WHERE id > ? AND ({where}) ORDER BY id LIMIT {_BATCH}"  # noqa: S608
            batch = self._connection.execute(query, (last,)).fetchall()
            if not batch:
                return
            yield batch
            last = int(batch[-1]["id"])
