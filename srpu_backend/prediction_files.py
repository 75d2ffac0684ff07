"""What a version said about each task, kept on disk so that nothing is predicted twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_zoo.files import write_atomically


@dataclass(frozen=True)
class Prediction:
    """What a version says about one task."""

    task: int
    result: list[dict[str, Any]]
    score: float
    """Low = label first."""
    model_version: str


class PredictionFiles:
    """`predictions/<version>/<task>.json` of one project and version."""

    def __init__(self, project_root: Path, version: str) -> None:
        self.version = version
        self._folder = project_root / "predictions" / version

    def put(self, prediction: Prediction, data: Mapping[str, Any]) -> None:
        """Keep a prediction together with the task data it was made from."""
        self._folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"prediction": asdict(prediction), "data": dict(data)}).encode()
        write_atomically(self._folder / f"{prediction.task}.json", content)

    def get(self, task: int, data: Mapping[str, Any]) -> Prediction | None:
        """The prediction for a task; None when there is none, or it was made from other data."""
        try:
            kept = json.loads((self._folder / f"{task}.json").read_bytes())
            return Prediction(**kept["prediction"]) if kept["data"] == dict(data) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def forget_others(self, keep: Iterable[str]) -> None:
        """Drop the predictions of all versions but this one and those to `keep`."""
        kept = {self.version, *keep}
        for folder in self._other_folders(kept):
            shutil.rmtree(folder, ignore_errors=True)

    def _other_folders(self, kept: set[str]) -> Iterator[Path]:
        if self._folder.parent.is_dir():
            yield from (f for f in self._folder.parent.iterdir() if f.is_dir() and f.name not in kept)
