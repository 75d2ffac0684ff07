"""Content-addressed files and, for each reference, which of them it last was.

```
images/ab/<sha256>.<ext>     an image; never changes, shared by all projects and snapshots
images/index/<key>.json      what a reference was when last asked
images/incoming/  locks/     downloads under way; one download of a reference at a time
```
Files only ever appear whole, so that any number of processes may use one cache.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

from pydantic import ValidationError

from model_zoo.card import Frozen
from model_zoo.files import locked, write_atomically

_ABANDONED_AFTER = 86_400.0
"""Seconds after which a file in `incoming` is what a killed process left."""


class Entry(Frozen):
    """Which content a reference had."""

    sha256: str
    extension: str
    size: int
    """Bytes."""
    etag: str = ""
    last_modified: str = ""
    checked_at: float
    """Unix time when its server was last asked."""

    @property
    def name(self) -> str:
        """Path within the cache."""
        return f"{self.sha256[:2]}/{self.sha256}.{self.extension}"


class ImageCache:
    """The folder `images` of MODEL_DIR. Nothing is ever evicted: snapshots refer to its files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, tuple[int, int]] = {}
        for folder in ("index", "incoming", "locks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()

    def lookup(self, key: str) -> tuple[Entry, Path] | None:
        """What a reference was, when its file is there and has the content it should have."""
        try:
            entry = Entry.model_validate_json(self._index(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        path = self.root / entry.name
        return (entry, path) if self._is_whole(entry, path) else None

    def remember(self, key: str, entry: Entry) -> None:
        """Note what a reference is now."""
        write_atomically(self._index(key), entry.model_dump_json().encode())

    @contextmanager
    def incoming(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A file to write an image to before it is known; gone afterwards unless it was adopted."""
        descriptor, name = mkstemp(dir=self.root / "incoming")
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def adopt(self, file: BinaryIO, path: Path, entry: Entry) -> Path:
        """Give an incoming file its final name; replaces a damaged one."""
        target = self.root / entry.name
        target.parent.mkdir(exist_ok=True)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
        path.replace(target)
        self._verified.pop(entry.sha256, None)
        return target

    @contextmanager
    def only_one(self, key: str) -> Iterator[None]:
        """Held by one thread of one process at a time for a reference (or one of 256 alike)."""
        with locked(self.root / "locks" / _digest(key)[:2]):
            yield

    def _index(self, key: str) -> Path:
        return self.root / "index" / f"{_digest(key)}.json"

    def _is_whole(self, entry: Entry, path: Path) -> bool:
        """Whether the content is what its name says; hashed once, then again whenever the file changes."""
        try:
            found = path.stat()
            stamp = (found.st_size, found.st_mtime_ns)
            if self._verified.get(entry.sha256) == stamp:
                return True
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
        except OSError:
            return False
        if whole:
            self._verified[entry.sha256] = stamp
        return whole

    def _remove_abandoned(self) -> None:
        for path in (self.root / "incoming").iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                    path.unlink()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
