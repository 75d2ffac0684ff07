"""What Lightning runs: one network that learns, and the moving average of it that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model_zoo.errors import SRPUError
from training.config import Mode
from training.fitting.budget import Budget, learning_rate_factor
from training.fitting.hardware import ResolvedConfig
from training.fitting.parameter_groups import parameter_groups
from training.fitting.ranks import gradient_for_mean
from training.progress import Progress

_SMOOTHING = 0.95  # of the loss that is reported
_NEXT_PROCESS = 2**40  # between the seeds of two processes, whose dropout must differ


class TrainingDiverged(SRPUError):
    """The loss is no number any more."""


class Learner(LightningModule):
    """Steps over batches of crops until the budget is used up.

    Each step draws its random numbers from the seed and its own number, and takes the crops that follow those
    `seen`, so a training that was interrupted goes on as if it had not been.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        config: ResolvedConfig,
        budget: Budget,
        report: Callable[[Progress], None],
        mode: Mode,
    ) -> None:
        super().__init__()
        self.network = channels_last(network)
        self.average = AveragedModel(
            self.network, multi_avg_fn=exponential_average(config.ema_decay), use_buffers=True
        ).requires_grad_(False)
        self.loss = loss
        self.config = config
        self.budget = budget
        self.steps = 0
        self.seen = 0
        """Crops that were learnt from."""
        self.smoothed_loss: float | None = None
        self._report = report
        self.mode = mode
        self._frozen = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = parameter_groups(self.network, self.config, self.mode != "scratch")
        return torch.optim.AdamW(groups, lr=self.config.lr)

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether the encoder stays as it is at this step: neither learns nor measures norms."""
        until = self.config.unfreeze_at
        waits = until is None or self.budget.fraction(self.steps) < until
        return self.mode == "finetune_frozen" and waits

    def on_train_start(self) -> None:
        self.budget.start()
        self._freeze(self.encoder_is_frozen)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(self.config.seed * 1_000_003 + self.steps + _NEXT_PROCESS * self.global_rank)
        # At the middle of the step: at its beginning, the clock alone would decide on the first one.
        factor = learning_rate_factor(self.budget.fraction(self.steps + 0.5), self.config.warmup)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["full_lr"] * factor
        if self._frozen and not self.encoder_is_frozen:
            self._freeze(False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, truth = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        loss: Tensor = self.loss(logits, truth.long())
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"The loss became {value} at step {self.steps + 1}: the learning rate {self.config.lr} is "
                "too high for this data; set `lr` to a third of it, or `precision` to float32."
            )
        before = self.smoothed_loss
        self.smoothed_loss = value if before is None else _SMOOTHING * before + (1 - _SMOOTHING) * value
        self.log_dict({"loss": value, "lr": self.trainer.optimizers[0].param_groups[-1]["lr"]})
        self.log_dict({f"loss/{name}": part for name, part in getattr(self.loss, "parts", {}).items()})
        return gradient_for_mean(loss)

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.average.update_parameters(self.network)
        self.steps += 1
        self.seen += len(batch[0]) * self.trainer.world_size
        fraction = self.budget.fraction(self.steps)
        self._report(self._progress(fraction))
        if fraction >= 1:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        self.budget.stop()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["learner"] = {
            "steps": self.steps,
            "seen": self.seen,
            "elapsed": self.budget.elapsed,
            "loss": self.smoothed_loss,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["learner"]
        self.steps, self.seen, self.smoothed_loss = saved["steps"], saved["seen"], saved["loss"]
        self.budget.earlier = saved["elapsed"]

    def _freeze(self, frozen: bool) -> None:
        encoder: nn.Module = self.network.get_submodule("encoder")
        encoder.requires_grad_(not frozen)
        encoder.train(not frozen)
        self._frozen = frozen

    def _progress(self, fraction: float) -> Progress:
        left = self.budget.remaining(self.steps)
        return Progress(
            stage="train",
            fraction=fraction,
            step=self.steps,
            loss=self.smoothed_loss,
            eta_seconds=left,
            message=f"step {self.steps}, loss {self.smoothed_loss:.3f}" + _time_left(left),
        )


def exponential_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """For `AveragedModel`: average ← d · average + (1 − d) · current, with d rising to `decay`.

    d is at most (1 + n) / (10 + n) at update n (as in TensorFlow's ExponentialMovingAverage), lest a short
    training should keep much of its random start. Integers, such as batch counts, are copied.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        number = float(updates)
        share = 1 - min(decay, (1 + number) / (10 + number))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(current), share)
        else:
            torch._foreach_copy_(list(averages), list(current))

    return update


def channels_last(network: nn.Module) -> nn.Module:
    """In place: the order of memory in which convolutions are fastest, on CPUs and on GPUs."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f", {seconds:.0f} s left" if seconds < 90 else f", {seconds / 60:.0f} min left"
