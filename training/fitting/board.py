"""What TensorBoard shows beside the loss: crops, throughput, and how well crops are segmented by then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from training.data.dataset import TrainingCrops
from training.overlays import overlay

_SHOWN_CROPS = 12
_SHOWN_IN_A_ROW = 4
_GAP = 4  # px between pictures


class Board(Callback):
    """Logs a contact sheet of the first crops at the start, and throughput as it goes."""

    def __init__(
        self,
        crops: TrainingCrops,
        classes: Sequence[ClassInfo],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._crops = crops
        self._classes = classes
        self._clock = clock
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = None
        if trainer.is_global_zero and trainer.global_step == 0 and trainer.logger is not None:
            show(trainer, "crops", contact_sheet(self._crops, self._classes), 0)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        now = self._clock(), int(pl_module.seen)
        if self._since is None:
            self._since = now
        elif trainer.global_step % max(1, trainer.log_every_n_steps) == 0 and now[0] > self._since[0]:
            rate = (now[1] - self._since[1]) / (now[0] - self._since[0])
            if trainer.logger is not None:
                trainer.logger.log_metrics({"crops_per_second": rate}, trainer.global_step)
            self._since = now


def contact_sheet(crops: TrainingCrops, classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """The first crops of the stream, augmented as they are learnt from, with their truth: uint8 RGB."""
    how = crops.config.normalisation
    tiles = []
    for index in range(_SHOWN_CROPS):
        pixels, truth = crops[index]
        grey = torch.clamp(pixels[pixels.shape[0] // 2] * how.std + how.mean, 0, 1)
        image = (grey * 255).to(torch.uint8).numpy()
        tiles.append(side_by_side([np.repeat(image[..., None], 3, axis=2), _tinted(image, truth, classes)]))
    rows = [
        side_by_side(tiles[start : start + _SHOWN_IN_A_ROW])
        for start in range(0, _SHOWN_CROPS, _SHOWN_IN_A_ROW)
    ]
    return stacked(rows)


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """RGB pictures of one height, (H, W, 3) each, in a row with white gaps."""
    gap = np.full((pictures[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=1)


def stacked(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """RGB pictures, (H, W, 3) each, below one another; the narrower ones are filled with white."""
    width = max(row.shape[1] for row in rows)
    filled = [
        np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows
    ]
    return np.concatenate(filled, axis=0)


def show(trainer: Trainer, name: str, picture: NDArray[np.uint8], step: int) -> None:
    """Put an RGB picture on the board; does nothing without a logger."""
    if trainer.logger is not None:
        trainer.logger.experiment.add_image(name, picture, step, dataformats="HWC")


def _tinted(image: NDArray[np.uint8], truth: torch.Tensor, classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    return overlay(image, truth.numpy(), classes)
