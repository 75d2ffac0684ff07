"""How far a training is, and why one failed: two small files that others watch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from model_zoo.card import Frozen
from model_zoo.files import write_atomically

PROGRESS_NAME = "progress.json"
ERROR_NAME = "error.json"


class Progress(Frozen):
    """One moment of a run."""

    stage: Literal["read", "train", "export", "evaluate", "done"]
    fraction: float | None = None
    """Of the stage's work, in [0, 1]; None where nobody can tell."""
    step: int = 0
    loss: float | None = None
    """Smoothed over the last steps."""
    eta_seconds: float | None = None
    """To the end of the stage."""
    message: str = ""
    """One line for people."""


class ProgressFile:
    """Keeps `progress.json` in a folder up to date, about once an `interval` and at every new stage."""

    def __init__(
        self, folder: Path, interval: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / PROGRESS_NAME
        self._interval = interval
        self._clock = clock
        self._written: float | None = None
        self._stage = ""

    def __call__(self, progress: Progress) -> None:
        """Write `progress`, unless the last one is younger than the interval and of the same stage."""
        now = self._clock()
        recent = self._written is not None and now - self._written < self._interval
        if recent and progress.stage == self._stage:
            return
        write_atomically(self._path, progress.model_dump_json().encode(), durable=False)
        self._written, self._stage = now, progress.stage


def write_error(folder: Path, message: str) -> None:
    """Leave `error.json` in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / ERROR_NAME, json.dumps({"message": message}, ensure_ascii=False).encode())


def clear_error(folder: Path) -> None:
    """Forget why the run before this one failed."""
    (folder / ERROR_NAME).unlink(missing_ok=True)
