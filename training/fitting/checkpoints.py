"""The checkpoints of a training in progress: what a killed process goes on from, and the best so far."""

from __future__ import annotations

import logging
import pickle
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from model_zoo.card import WeightsRecord
from model_zoo.files import sync

log = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Writes `last.ckpt` every so often and at the end, and finds it again.

    `fingerprint` names what is trained on what: a checkpoint of anything else is not gone on from.
    """

    def __init__(
        self, folder: Path, fingerprint: str, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = folder / "last.ckpt"
        self._best = folder / "best.ckpt"
        self.weights = WeightsRecord()
        """What the encoder began with."""
        self._fingerprint = fingerprint
        self._seconds = seconds
        self._clock = clock
        self._saved = clock()

    def latest(self) -> dict[str, Any] | None:
        """The content of a usable checkpoint, or None; sets `weights` from it."""
        content = self._read(self.path)
        if content is not None:
            self.weights = WeightsRecord.model_validate(content["weights"])
        return content

    def best(self) -> dict[str, Any] | None:
        """What `keep_best` wrote, if it is of this training."""
        return self._read(self._best)

    def keep_best(self, content: Mapping[str, Any]) -> None:
        """Write `best.ckpt` in place of an earlier one."""
        self._best.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._best.with_name(f".{self._best.name}")
        torch.save({**content, "fingerprint": self._fingerprint}, temporary)
        sync(temporary)
        temporary.replace(self._best)
        sync(self._best.parent)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["fingerprint"] != self._fingerprint:
                log.info("The checkpoint %s is of another training; starting anew.", path)
                return None
        except FileNotFoundError:
            return None
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("The checkpoint %s cannot be read (%s); starting anew.", path, reason)
            return None
        return dict(content)

    def forget(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["fingerprint"] = self._fingerprint
        checkpoint["weights"] = self.weights.model_dump()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = self._clock()

    # Not at a batch's end, where callbacks are called before the learner has counted the step.
    def on_train_batch_start(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if self._clock() - self._saved >= self._seconds:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}")
        trainer.save_checkpoint(temporary)  # by all processes; the first one writes
        if trainer.is_global_zero:
            sync(temporary)
            temporary.replace(self.path)
            sync(self.path.parent)
        self._saved = self._clock()
