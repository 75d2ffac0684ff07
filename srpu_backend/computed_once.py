"""Of several threads that want the same thing at once, one computes it and the others get what it got."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class ComputedOnce(Generic[T]):
    """Holds nothing once a computation has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[T]] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` returns or raises, here or in the thread that is at it already."""
        with self._lock:
            running = self._running.get(key)
            mine: Future[T] = running or Future()
            self._running[key] = mine
        if running is not None:
            return running.result()
        try:
            mine.set_result(compute())
        except BaseException as error:
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._running[key]
        return mine.result()
