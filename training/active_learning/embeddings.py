"""Embeddings that are computed once: by content of the image and identity of what embeds, in files.

A folder for each identity holds `vectors.npy` (float16), `descriptions.npy` (uint8, what near-duplicates are
told by) and `rows.sqlite`, which says whose each row is. A batch is appended behind the last row that SQLite
knows of, synced, and only then entered there: what a crash leaves half-written is overwritten, and a reader
never sees it. Several processes may append; a lock file makes them take turns.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.files import locked
from training.active_learning.coreset import blocks
from training.data.near_duplicates import DESCRIPTION_BYTES

_HEADER = 128  # bytes: what numpy itself writes for a table of any length
_IN_MEMORY = 512 * 2**20
"""Bytes of float32 beyond which a pool's embeddings are gathered in a file."""
_SCHEMA = "CREATE TABLE IF NOT EXISTS rows (digest TEXT PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID"
_AT_ONCE = 500  # SQLite's variables in one question


@dataclass(frozen=True)
class _Table:
    """A .npy file that grows."""

    path: Path
    width: int
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return self.width * self.dtype.itemsize

    def rows(self) -> int:
        """How many whole rows the file has."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return max(0, size - _HEADER) // self.row_bytes

    def write(self, first: int, values: NDArray[Any]) -> None:
        """Put rows at `first`, whatever was there, and wait until the disk has them."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            data = np.ascontiguousarray(values, self.dtype).tobytes()
            os.pwrite(descriptor, self._header(first + len(values)), 0)
            done = 0
            while done < len(data):
                done += os.pwrite(descriptor, data[done:], _HEADER + first * self.row_bytes + done)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, count: int) -> NDArray[Any]:
        """The first `count` rows, memory-mapped."""
        shape = (count, self.width)
        if count == 0:
            return np.zeros(shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r", offset=_HEADER, shape=shape)

    def _header(self, count: int) -> bytes:
        facts = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': ({count}, {self.width}), }}"
        start = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
        return start + facts.ljust(_HEADER - len(start) - 1).encode() + b"\n"


class EmbeddingStore:
    """The embeddings one embedder gave; safe to be killed at any time."""

    def __init__(self, folder: Path, identity: str, width: int) -> None:
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "identity.txt").write_text(identity, encoding="utf-8")
        self._vectors = _Table(self.folder / "vectors.npy", width, np.dtype(np.float16))
        self._descriptions = _Table(self.folder / "descriptions.npy", DESCRIPTION_BYTES, np.dtype(np.uint8))
        with closing(self._connect()) as index, index:
            index.execute(_SCHEMA)

    def __len__(self) -> int:
        with closing(self._connect()) as index:
            return self._count(index)

    def add(
        self, digests: Sequence[str], vectors: NDArray[Any], descriptions: Sequence[bytes | None]
    ) -> None:
        """Append (m, width) embeddings with the sha256 of their images; those known already are left out."""
        with locked(self.folder / "lock"), closing(self._connect()) as index, index:
            known = self._rows(index, digests)
            fresh = [i for i, digest in enumerate(digests) if digest not in known]
            fresh = [
                i for place, i in enumerate(fresh) if digests[i] not in {digests[j] for j in fresh[:place]}
            ]
            if not fresh:
                return
            first = self._count(index)
            self._vectors.write(first, np.asarray(vectors)[fresh])
            raw = b"".join(descriptions[i] or bytes(DESCRIPTION_BYTES) for i in fresh)
            self._descriptions.write(first, np.frombuffer(raw, np.uint8).reshape(len(fresh), -1))
            pairs = [(digests[i], first + place) for place, i in enumerate(fresh)]
            index.executemany("INSERT INTO rows VALUES (?, ?)", pairs)

    def rows(self, digests: Sequence[str]) -> dict[str, int]:
        """The row of each image that is known."""
        with closing(self._connect()) as index:
            return self._rows(index, digests)

    def vectors(self) -> NDArray[Any]:
        """All embeddings: float16 (rows, width), memory-mapped."""
        return self._vectors.read(len(self))

    def descriptions(self) -> NDArray[np.uint8]:
        """All descriptions: uint8 (rows, bytes), memory-mapped."""
        return self._descriptions.read(len(self))

    def _count(self, index: sqlite3.Connection) -> int:
        """Rows in use. Where a file was cut short, what it lost is forgotten, and computed anew."""
        count = int(index.execute("SELECT COALESCE(MAX(row) + 1, 0) FROM rows").fetchone()[0])
        held = min(self._vectors.rows(), self._descriptions.rows())
        if held < count:
            index.execute("DELETE FROM rows WHERE row >= ?", (held,))
            index.commit()
        return min(count, held)

    def _rows(self, index: sqlite3.Connection, digests: Sequence[str]) -> dict[str, int]:
        self._count(index)
        found: dict[str, int] = {}
        for start in range(0, len(digests), _AT_ONCE):
            some = digests[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            found.update(index.execute(f"SELECT digest, row FROM rows WHERE digest IN ({marks})", some))  # noqa: S608
        return found

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "rows.sqlite", timeout=60)


def standardised(vectors: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """The embeddings of a pool, comparable: (n, d), each number of mean 0 and deviation 1 over the pool.

    Then each image is scaled to length 1, as TypiClust and ProbCover want it; −1 in `rows` gives NaN. float32
    in memory, or float16 in a nameless file where that would take more than half a gigabyte.
    """
    shape = (len(rows), vectors.shape[1])
    mean, spread = _moments(vectors, rows)
    large = shape[0] * shape[1] * 4 > _IN_MEMORY
    pool = _scratch(shape) if large else np.empty(shape, np.float32)
    for start in range(0, len(rows), 8192):
        some = rows[start : start + 8192]
        block = (np.asarray(vectors[np.maximum(some, 0)], np.float32) - mean) / spread
        block[(some < 0) | ~np.isfinite(block).all(axis=1)] = np.nan
        length = np.linalg.norm(block, axis=1, keepdims=True)
        block /= np.maximum(length, np.float32(1e-6))
        pool[start : start + len(some)] = block
    return pool


def _moments(
    vectors: NDArray[Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    total = np.zeros((2, vectors.shape[1]), np.float64)
    count = 0
    known = rows[rows >= 0]
    for start, _ in blocks(known[:, None]):
        block = np.asarray(vectors[known[start : start + 8192]], np.float64)
        block = block[np.isfinite(block).all(axis=1)]
        total += block.sum(axis=0), (block * block).sum(axis=0)
        count += len(block)
    mean = total[0] / max(1, count)
    spread = np.sqrt(np.maximum(0, total[1] / max(1, count) - mean**2))
    # A number that hardly varies says nothing; it must not be blown up to say as much as the others.
    spread = np.maximum(spread, 1e-3 + 0.01 * np.abs(mean))
    return mean.astype(np.float32), spread.astype(np.float32)


def _scratch(shape: tuple[int, int]) -> NDArray[Any]:
    with TemporaryFile() as file:  # the mapping keeps it until it is dropped itself
        return np.memmap(file, np.float16, "w+", shape=shape)
