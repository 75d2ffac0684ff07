"""What a version said about each task, kept on disk so that nothing is predicted twice.

The trainer writes them ahead of the annotator, for every unlabelled task; `/predict` answers from them, and
adds what it had to compute.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from model_zoo.files import write_atomically
from training.active_learning.pool_answers import AnswerCache

_DOUBTS = "doubts.sqlite"


@dataclass(frozen=True)
class Prediction:
    """What a version says about one task."""

    task: int
    result: list[dict[str, Any]]
    score: float
    """Low = label first."""
    model_version: str


def fingerprint(data: object) -> str:
    """Hash of a task's data, whatever JSON can hold."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def content_key(task: int, data: object) -> str:
    """Key of what a version says about a task with these data."""
    return f"{task}:{fingerprint(data)}"


class PredictionFiles:
    """`predictions/<version>/<task>.json` of one project and version, under one label config.

    `config` is the label config's fingerprint: regions that were written for another one are not found.
    """

    def __init__(self, project_root: Path, version: str, config: str = "") -> None:
        self.version = version
        self._config = config
        self.folder = project_root / "predictions" / version

    def put(self, prediction: Prediction, data: object, doubts: Sequence[float] = ()) -> None:
        """Keep a prediction together with the task data it was made from, and what was doubtful in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if doubts:
            key = content_key(prediction.task, data)
            AnswerCache(self.folder / _DOUBTS).put(self.version, key, np.array(doubts, np.float32))
        kept = {"prediction": prediction, "data": fingerprint(data), "config": self._config}
        # What a power cut takes is predicted again; so nobody waits for the disk.
        content = orjson.dumps(kept, option=orjson.OPT_SERIALIZE_NUMPY)
        write_atomically(self.folder / f"{prediction.task}.json", content, durable=False)

    def get(self, task: int, data: object) -> Prediction | None:
        """The prediction for a task; None when there is none, or it was made from other data."""
        try:
            kept = orjson.loads((self.folder / f"{task}.json").read_bytes())
            found = (kept["data"], kept["config"]) == (fingerprint(data), self._config)
            return Prediction(**kept["prediction"]) if found else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def doubts(self, contents: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """What the version was unsure of, by `content_key`, as far as it was kept: ranking asks no model."""
        if not (self.folder / _DOUBTS).exists():
            return {}
        return AnswerCache(self.folder / _DOUBTS).many(self.version, contents)

    def forget_others(self, keep: Iterable[str]) -> None:
        """Drop the predictions of all versions but this one and those to `keep`."""
        kept = {self.version, *keep}
        for folder in self._other_folders(kept):
            shutil.rmtree(folder, ignore_errors=True)

    def _other_folders(self, kept: set[str]) -> Iterator[Path]:
        if self.folder.parent.is_dir():
            yield from (f for f in self.folder.parent.iterdir() if f.is_dir() and f.name not in kept)
