"""Images set aside choose which of the weights of a training are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import distributed, nn

from model_zoo.card import ModelCard
from model_zoo.inference import Predictor
from model_zoo.inference.engines import Engine
from training.config import TrainingConfig
from training.data.manifest import Manifest, Sample
from training.data.samples import read_stack, read_truth
from training.fitting.board import show, side_by_side, stacked
from training.fitting.changed_images import as_written, write_changed
from training.fitting.checkpoints import Checkpoints
from training.fitting.learner import Learner
from training.fitting.ranks import count_of_ranks
from training.overlays import overlay
from training.scoring.evaluation import Evaluation, evaluate

log = logging.getLogger(__name__)

_SHOWN = 4  # images in a panel


class NetworkEngine:
    """Runs a network in memory, for `Predictor`."""

    name = "torch"
    batch = 1

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._device = next(network.parameters()).device

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            answer = self._network(torch.from_numpy(images).to(self._device))
        logits: NDArray[np.float32] = answer.float().cpu().numpy()
        return logits


@dataclass(frozen=True)
class Jury:
    """The images that judge, and how."""

    manifest: Manifest
    """Holds nothing but labelled samples of the part `holdout`."""
    card: ModelCard
    """How the network is fed."""

    @classmethod
    def of(cls, manifest: Manifest, card: ModelCard, at_most: int) -> Jury:
        """Evenly spaced labelled images of the holdout, so that no group is preferred."""
        labelled = [sample for sample in manifest.of("holdout") if sample.mask is not None]
        count = min(at_most, len(labelled))
        chosen = [labelled[place * len(labelled) // count] for place in range(count)]
        return cls(manifest.model_copy(update={"samples": tuple(chosen)}), card)

    def changed(self, config: TrainingConfig, folder: Path) -> Jury:
        """The same images as `config.validation_augmentation` changes them, written to `folder`; itself where
        that changes nothing."""
        if not config.validation_augmentation.enabled:
            return self
        normalisation = as_written(self.card.normalisation)
        card = self.card.model_copy(update={"normalisation": normalisation})
        return Jury(write_changed(self.manifest, config, folder), card)

    def predictor(self, network: nn.Module) -> Predictor:
        """`network` behind the tiles and the normalisation it will serve with."""
        engine: Engine = NetworkEngine(network)
        return Predictor(self.card, engine)

    def score(self, network: nn.Module) -> Evaluation:
        """Counts over all images."""
        return evaluate(self.predictor(network), self.manifest, "holdout")

    def panel(self, network: nn.Module) -> NDArray[np.uint8]:
        """Image, truth and prediction of the first images, for people: uint8 RGB."""
        return stacked([self._row(network, sample) for sample in self.manifest.samples[:_SHOWN]])

    def _row(self, network: nn.Module, sample: Sample) -> NDArray[np.uint8]:
        depth, classes = self.card.spec.input_depth, self.manifest.classes
        stack = read_stack(sample, depth)
        truth = read_truth(sample, (stack.shape[1], stack.shape[2]), len(classes))
        found = self.predictor(network).predict(stack).class_map
        image = stack[depth // 2]
        nothing = np.zeros_like(found)
        clear = [info.model_copy(update={"color": "#000000"}) for info in classes]
        return side_by_side(
            [overlay(image, nothing, clear), overlay(image, truth, classes), overlay(image, found, classes)]
        )


class Validation(Callback):
    """Scores the averaged weights every `every` of the budget, and keeps the best in `best.ckpt`."""

    def __init__(
        self,
        jury: Jury,
        checkpoints: Checkpoints,
        every: float,
        finished: Callable[[Learner], nn.Module],
        scores: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`finished` makes of a learner the network that would be kept if the training ended now."""
        self._jury = jury
        self._checkpoints = checkpoints
        self._every = every
        self._finished = finished
        self._rounds = 0
        self._last = -1  # step
        self.scores: list[dict[str, Any]] = list(scores)
        """Of each validation: `step` and `miou`."""

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self._rounds, "last": self._last, "scores": self.scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rounds, self._last = state_dict["rounds"], state_dict["last"]
        self.scores = state_dict["scores"]

    # Not at a batch's end, where callbacks are called before the learner has counted the step.
    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        rounds = int(pl_module.budget.fraction(pl_module.steps) / self._every + 1e-9)
        if rounds > self._rounds:
            self._rounds = rounds
            self._validate(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._last < pl_module.steps:
            self._validate(trainer, pl_module)

    def _validate(self, trainer: Trainer, learner: Learner) -> None:
        self._last = learner.steps
        if trainer.is_global_zero:
            self._score(trainer, learner)
        if count_of_ranks() > 1:
            distributed.barrier()

    def _score(self, trainer: Trainer, learner: Learner) -> None:
        network = self._finished(learner)
        evaluation = self._jury.score(network)
        miou = evaluation.miou or 0.0
        best = max((score["miou"] for score in self.scores), default=-1.0)
        self.scores.append({"step": learner.steps, "miou": miou})
        log.info("Step %d: mIoU %.1f %% on %d images.", learner.steps, 100 * miou, len(evaluation.images))
        if miou > best:
            state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            self._checkpoints.keep_best({"state_dict": state, "step": learner.steps, "miou": miou})
        if trainer.logger is not None:
            by_class = {f"validation/iou/{n}": v for n, v in evaluation.iou.items() if v is not None}
            trainer.logger.log_metrics({"validation/miou": miou, **by_class}, learner.steps)
            show(trainer, "validation", self._jury.panel(network), learner.steps)
