"""Locks between processes: held as long as their holder lives, so that no kill leaves one behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Locked(Exception):
    """Somebody else holds the lock."""


@contextmanager
def exclusive(path: Path, wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold `path` (a file that is made when missing) for the length of the `with` block.

    Threads exclude each other as processes do: the lock belongs to this opening of the file
    (`flock(2)`), which a child may inherit to keep it held for as long as the child lives.

    Args:
        path: the lock file; its content is not touched.
        wait: called every 0.1 s while somebody else holds the lock; may raise to give up.
            Without it, a lock that is held raises at once.

    Yields:
        the file descriptor that holds the lock.

    Raises:
        Locked: somebody else holds it and `wait` was not given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(descriptor):
            if wait is None:
                raise Locked(f"{path} is held by another process.")
            wait()
            time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
