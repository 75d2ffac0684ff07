"""One clock for all processes of a training."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import distributed

from training.fitting.ranks import count_of_ranks


class AgreedClock(Callback):
    """The first process's clock, read by all when a step ends, so that they stop and save at the same one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._agree(pl_module.device)

    # Callbacks' hooks are called before those of the module, which asks for the time.
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self._agree(pl_module.device)

    def _agree(self, device: torch.device) -> None:
        now = torch.tensor(self._clock(), dtype=torch.float64, device=device)
        if count_of_ranks() > 1:
            distributed.broadcast(now, src=0)
        self._now = float(now)
