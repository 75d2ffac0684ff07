"""How long a training may take, and how the learning rate follows from how much of that is used."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Budget:
    """Minutes and, if bounded, steps: what is used up first ends the training.

    Only time between `start` and now counts, plus `earlier`, what was used before an interruption.
    """

    def __init__(
        self, minutes: float, max_steps: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = 60 * minutes
        self._max_steps = max_steps
        self._clock = clock
        self._started: float | None = None
        self.earlier = 0.0
        """Seconds."""

    def start(self) -> None:
        """Time counts from now on."""
        self._started = self._clock()

    def stop(self) -> None:
        """Time counts no more."""
        self.earlier, self._started = self.elapsed, None

    @property
    def elapsed(self) -> float:
        """Seconds used, over all interruptions."""
        return self.earlier + (0.0 if self._started is None else self._clock() - self._started)

    def fraction(self, step: float) -> float:
        """Used share of the budget after `step` steps, in [0, 1]; 1 = stop."""
        of_steps = step / self._max_steps if self._max_steps else 0.0
        return min(1.0, max(of_steps, self.elapsed / self._seconds))

    def remaining(self, step: float) -> float | None:
        """Seconds left, judged by the pace so far; None before anything is known."""
        used = self.fraction(step)
        return self.elapsed * (1 - used) / used if used > 0 and self.elapsed > 0 else None


def learning_rate_factor(fraction: float, warmup: float) -> float:
    """Multiple of the full rate when `fraction` of the budget is used: a linear rise, then half a cosine.

    (Loshchilov & Hutter, SGDR, 2017, eq. 5, with one period.) In (0, 1] before the end, 0 at the end.
    """
    if fraction < warmup:
        return max(fraction / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup)))
