"""One network, one Lightning Trainer, within the time and the memory there are."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch import distributed, nn

from model_zoo.architectures import build
from model_zoo.card import WeightsRecord
from model_zoo.errors import SRPUError
from model_zoo.weights import load_or_random
from training.config import BadConfig, Mode, TrainingConfig
from training.data.dataset import LabelledImages, TrainingCrops, loader
from training.fitting.agreed_clock import AgreedClock
from training.fitting.board import Board
from training.fitting.budget import Budget
from training.fitting.checkpoints import Checkpoints
from training.fitting.job import Job
from training.fitting.learner import Learner, TrainingDiverged, channels_last
from training.fitting.losses import DiceCrossEntropy, class_weights
from training.fitting.norms import settle_norms
from training.fitting.ranks import count_of_ranks
from training.fitting.validation import Jury, Validation

log = logging.getLogger(__name__)

VALIDATION_NAME = "validation"
"""Folder of the changed images of a validation, while it trains."""
_NORM_BATCHES = 16
_NOT_THE_MODEL = {
    "minutes",
    "clock",
    "threads",
    "workers",
    "memory_mb",
    "checkpoint_seconds",
    "keep_checkpoints",
    "device",
    "compile",
    "devices",
    "nodes",
}
"""Settings that may change between an interruption and the resumption."""


class OutOfMemory(SRPUError):
    """Memory does not suffice even for the smallest batch."""


@dataclass(frozen=True)
class Fitted:
    """What a training leaves."""

    network: nn.Module
    """The model: on the CPU, in eval mode, its norms settled."""
    learner: Learner
    weights: WeightsRecord
    validated: dict[str, Any] | None = None
    """`step` and `miou` of the weights that were kept, where a validation chose them."""


def fit_within_memory(job: Job, images: LabelledImages) -> Fitted:
    """Train; where memory does not suffice, go on with half the batch."""
    batch_size = job.config.batch_size
    while True:
        try:
            return _Fit(job, images, batch_size).run()
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            _refuse_if_smallest(job, batch_size)
            batch_size = max(2, batch_size // 2)
            job.warn(f"Memory did not suffice; going on with {batch_size} crops a step.")
        gc.collect()  # after the handler, whose traceback held the tensors
        torch.cuda.empty_cache()


def _refuse_if_smallest(job: Job, batch_size: int) -> None:
    if job.ranks.count > 1:  # the others wait for this one in the middle of a step
        raise OutOfMemory(
            f"Memory does not suffice for {job.ranks.share(batch_size)} crops of {job.config.crop} px on "
            f"each of {job.ranks.count} processes; set "
            f"`batch_size` to {max(job.ranks.count, batch_size // 2)}."
        ) from None
    if batch_size <= 2:
        raise OutOfMemory(
            f"Memory does not suffice for two crops of {job.config.crop} px through "
            f"{job.config.encoder}; set a smaller `crop`, or a smaller `encoder`."
        ) from None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "allocate memory" in str(error) or "out of memory" in str(error)


class _Fit:
    """One attempt with one size of batch."""

    def __init__(self, job: Job, images: LabelledImages, batch_size: int) -> None:
        self.job = job
        self.crops = TrainingCrops(images, job.config)
        self.batch_size = batch_size
        clock = _processor_clock if job.config.clock == "processor" else time.monotonic
        self.clock = AgreedClock(clock) if job.ranks.count > 1 else clock
        self.checkpoints = Checkpoints(
            job.out / "checkpoints", _fingerprint(job), job.config.checkpoint_seconds, self.clock
        )
        self.class_weights = class_weights(images.pixel_counts, job.config.class_weight_cap)

    def run(self) -> Fitted:
        """Go on from the last checkpoint, or begin."""
        saved = self.checkpoints.latest()
        learner = self._learner(resumed=saved is not None)
        if saved is not None:
            learner.on_load_checkpoint(saved)
            log.info("Going on from step %d.", learner.steps)
        if saved is not None and learner.budget.fraction(learner.steps) >= 1:  # killed after its last step
            learner.load_state_dict(saved["state_dict"])
        else:
            self._train(learner, resume=saved is not None)
        return self._fitted(learner)

    def _learner(self, resumed: bool) -> Learner:
        config = self.job.config
        torch.manual_seed(config.seed)
        network = build(self.job.spec)
        if not resumed:
            self.checkpoints.weights = load_or_random(network, self.job.spec, config.weights)
        return Learner(
            network,
            DiceCrossEntropy(self.class_weights),
            config,
            Budget(config.minutes, config.max_steps, self.clock),
            self.job.report,
            mode=_mode(config, self.checkpoints.weights),
        )

    def _train(self, learner: Learner, resume: bool) -> None:
        job, config = self.job, self.job.config
        crops = loader(
            self.crops,
            job.ranks.share(self.batch_size),
            config.workers,
            start=lambda: learner.seen,
            pin_memory=config.device == "cuda",
            first=job.ranks.rank,
            every=job.ranks.count,
        )
        if config.compile:
            _compile(learner.network)
        with _quiet_lightning():
            trainer = Trainer(
                **_processes(job, learner),
                precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
                max_epochs=-1,
                max_steps=config.max_steps or -1,
                gradient_clip_val=config.gradient_norm,
                benchmark=config.device == "cuda",
                logger=TensorBoardLogger(job.out, name="tensorboard", version="", default_hp_metric=False),
                log_every_n_steps=10,
                callbacks=self._callbacks(),
                enable_checkpointing=False,
                enable_progress_bar=False,  # ours shows what is reported
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            path = self.checkpoints.path if resume else None
            try:
                trainer.fit(learner, crops, ckpt_path=path, weights_only=True)
            except TrainingDiverged:
                self.checkpoints.forget()  # its weights may be past saving
                raise
            finally:
                if count_of_ranks() > 1:
                    distributed.destroy_process_group()

    def _callbacks(self) -> list[Callback]:
        """In this order: time is agreed on first, and a validation is over before it is saved that it is."""
        config, manifest = self.job.config, self.job.manifest
        callbacks: list[Callback] = [self.clock] if isinstance(self.clock, AgreedClock) else []
        callbacks.append(Board(self.crops, manifest.classes))
        if config.validation == "holdout":
            jury = Jury.of(manifest, self.job.card(), config.validation_images)
            if self.job.ranks.is_first:
                jury = jury.changed(config, self.job.out / VALIDATION_NAME)
            callbacks.append(Validation(jury, self.checkpoints, config.validate_every, self._finished))
        callbacks.append(self.checkpoints)
        return callbacks

    def _fitted(self, learner: Learner) -> Fitted:
        best = self.checkpoints.best() if self.job.config.validation == "holdout" else None
        if not self.job.ranks.is_first:
            return Fitted(learner.average.module, learner, self.checkpoints.weights)
        if best is None:
            return Fitted(self._finished(learner).cpu(), learner, self.checkpoints.weights)
        network = build(self.job.spec).eval()
        network.load_state_dict(best["state_dict"])
        validated = {"step": best["step"], "miou": best["miou"]}
        return Fitted(network, learner, self.checkpoints.weights, validated)

    def _finished(self, learner: Learner) -> nn.Module:
        """The averaged network with its norms settled on the crops that would come next.

        Built anew: the average goes on, and its norms may be such as wait for other processes.
        """
        config = self.job.config
        network = build(self.job.spec)
        network.load_state_dict(learner.average.module.state_dict())
        crops = loader(self.crops, self.batch_size, 0, lambda: learner.seen, pin_memory=False)
        torch.manual_seed(config.seed)  # of dropout
        settle_norms(
            channels_last(network).to(config.device),
            islice(crops, _NORM_BATCHES),
            encoder_too=not learner.encoder_is_frozen,
        )
        return network


def _processes(job: Job, learner: Learner) -> dict[str, Any]:
    """The Trainer's arguments that say where it runs."""
    accelerator = "gpu" if job.config.device == "cuda" else "cpu"
    if job.ranks.count == 1:
        return {"accelerator": accelerator, "devices": 1}
    strategy = DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        # A frozen encoder gets no gradient, and DDP would wait for it.
        find_unused_parameters=learner.mode == "finetune_frozen",
    )
    return {
        "accelerator": accelerator,
        "devices": job.ranks.local_count,
        "num_nodes": job.ranks.machines,
        "strategy": strategy,
        "sync_batchnorm": job.config.sync_norms and accelerator == "gpu",
    }


def _compile(network: nn.Module) -> None:
    """In place; what cannot be compiled runs as it is, a little slower."""
    torch._dynamo.config.suppress_errors = True
    network.compile()


def _mode(config: TrainingConfig, weights: WeightsRecord) -> Mode:
    if config.mode == "auto":
        return "scratch" if weights.loaded == "none" else "finetune_differential"
    if config.mode != "scratch" and weights.loaded == "none":
        raise BadConfig(
            f"`mode` is {config.mode}, but the weights it would keep could not be had, so nothing was "
            f"trained; set `mode` to auto to go on without them. {weights.note}"
        )
    return config.mode


def _fingerprint(job: Job) -> str:
    config = job.asked.model_dump(mode="json", exclude=_NOT_THE_MODEL)
    facts = [job.manifest.content_hash, config, job.spec.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _processor_clock() -> float:
    """Seconds that all threads of the arithmetic were busy, as if evenly."""
    return time.process_time() / torch.get_num_threads()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice on workers and devices, which we have decided on, is not for our users."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # its own use of torch's internals
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # DDP's, of channels last
        yield
