"""How far a training is, for somebody who watches."""

from __future__ import annotations

import sys
from typing import Any, Self

from tqdm import tqdm

from training.progress import Progress


class TrainingBar:
    """Shows the stage, the steps, the loss and the time left on a terminal; nothing elsewhere."""

    def __enter__(self) -> Self:
        self._bar: Any = tqdm(
            total=100,
            bar_format="{desc} |{bar:20}| {percentage:3.0f} %",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=False,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, progress: Progress) -> None:
        """Show one moment."""
        if self._bar.disable:
            return
        self._bar.n = round(100 * (progress.fraction or 0.0), 1)
        self._bar.set_description_str(f"{progress.stage}: {progress.message}", refresh=True)
