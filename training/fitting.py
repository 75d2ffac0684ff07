"""One network, one Lightning Trainer, within the time and the memory there are."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch import nn

from model_zoo.architectures import build
from model_zoo.card import ModelSpec, WeightsRecord
from model_zoo.errors import SRPUError
from model_zoo.weights import load_or_random
from training.budget import Budget
from training.checkpoints import Checkpoints
from training.config import BadConfig, Mode, TrainingConfig
from training.data.dataset import LabelledImages, TrainingCrops, loader
from training.data.manifest import Manifest
from training.learner import Learner, TrainingDiverged
from training.losses import DiceCrossEntropy, class_weights
from training.norms import settle_norms
from training.progress import Progress

log = logging.getLogger(__name__)

_NORM_BATCHES = 16
_NOT_THE_MODEL = {"minutes", "threads", "workers", "memory_mb", "checkpoint_seconds", "device"}
"""Settings that may change between an interruption and the resumption."""


class OutOfMemory(SRPUError):
    """Memory does not suffice even for the smallest batch."""


@dataclass(frozen=True)
class Job:
    """What one call of `train` is about."""

    manifest: Manifest
    config: TrainingConfig
    spec: ModelSpec
    out: Path
    report: Callable[[Progress], None]
    warnings: list[str] = field(default_factory=list)
    """What the model's card will say about this run."""

    def warn(self, sentence: str) -> None:
        """Say it now, and in the model's card."""
        log.warning("%s", sentence)
        self.warnings.append(sentence)


def fit_within_memory(job: Job, images: LabelledImages) -> tuple[Learner, WeightsRecord]:
    """Train; where memory does not suffice, go on with half the batch."""
    batch_size = job.config.batch_size
    while True:
        try:
            return _fit(job, images, batch_size)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if batch_size <= 2:
                raise OutOfMemory(
                    f"Memory does not suffice for two crops of {job.config.crop} px through "
                    f"{job.config.encoder}; set a smaller `crop`, or a smaller `encoder`."
                ) from None
            batch_size = max(2, batch_size // 2)
            job.warn(f"Memory did not suffice; going on with {batch_size} crops a step.")
        gc.collect()  # after the handler, whose traceback held the tensors
        torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "allocate memory" in str(error) or "out of memory" in str(error)


def _fit(job: Job, images: LabelledImages, batch_size: int) -> tuple[Learner, WeightsRecord]:
    checkpoints = Checkpoints(job.out / "checkpoints", _fingerprint(job), job.config.checkpoint_seconds)
    saved = checkpoints.latest()
    network = _network(job, checkpoints, resumed=saved is not None)
    weights = class_weights(images.pixel_counts, job.config.class_weight_cap)
    learner = Learner(
        network,
        DiceCrossEntropy(weights),
        job.config,
        Budget(job.config.minutes, job.config.max_steps),
        job.report,
        mode=_mode(job.config, checkpoints.weights),
    )
    if saved is not None:
        learner.on_load_checkpoint(saved)
        if learner.budget.fraction(learner.steps) >= 1:  # killed after its last step
            learner.load_state_dict(saved["state_dict"])
            _settle_norms(job, images, learner, batch_size)
            return learner, checkpoints.weights
        log.info("Going on from step %d.", learner.steps)
    _run(job, images, learner, checkpoints, batch_size, resume=saved is not None)
    _settle_norms(job, images, learner, batch_size)
    return learner, checkpoints.weights


def _network(job: Job, checkpoints: Checkpoints, resumed: bool) -> nn.Module:
    torch.manual_seed(job.config.seed)
    network = build(job.spec)
    if not resumed:
        checkpoints.weights = load_or_random(network, job.spec, job.config.weights)
    return network


def _run(
    job: Job,
    images: LabelledImages,
    learner: Learner,
    checkpoints: Checkpoints,
    batch_size: int,
    resume: bool,
) -> None:
    device = _device(job.config)
    crops = loader(
        TrainingCrops(images, job.config),
        batch_size,
        _workers(job.config, device),
        start=lambda: learner.seen,
        pin_memory=device == "cuda",
    )
    with _quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if _precision(job.config, device) == "bfloat16" else "32-true",
            max_epochs=-1,
            max_steps=job.config.max_steps or -1,
            gradient_clip_val=job.config.gradient_norm,
            benchmark=device == "cuda",
            logger=TensorBoardLogger(job.out, name="tensorboard", version="", default_hp_metric=False),
            log_every_n_steps=10,
            callbacks=[checkpoints],
            enable_checkpointing=False,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(learner, crops, ckpt_path=checkpoints.path if resume else None, weights_only=True)
        except TrainingDiverged:
            checkpoints.forget()  # its weights may be past saving
            raise


def _settle_norms(job: Job, images: LabelledImages, learner: Learner, batch_size: int) -> None:
    """On the crops that would come next."""
    device = _device(job.config)
    crops = loader(TrainingCrops(images, job.config), batch_size, 0, lambda: learner.seen, pin_memory=False)
    torch.manual_seed(job.config.seed)  # of dropout
    average: nn.Module = learner.average.module.to(device)
    settle_norms(average, islice(crops, _NORM_BATCHES), encoder_too=not learner.encoder_is_frozen)


def _mode(config: TrainingConfig, weights: WeightsRecord) -> Mode:
    if config.mode == "auto":
        return "scratch" if weights.loaded == "none" else "finetune_differential"
    if config.mode != "scratch" and weights.loaded == "none":
        raise BadConfig(
            f"`mode` is {config.mode}, but the weights it would keep could not be had, so nothing was "
            f"trained; set `mode` to auto to go on without them. {weights.note}"
        )
    return config.mode


def _device(config: TrainingConfig) -> Literal["cpu", "cuda"]:
    if config.device != "cpu" and torch.cuda.is_available():
        return "cuda"
    if config.device == "cuda":
        raise BadConfig("`device` is cuda, but torch sees no GPU here; set it to auto, or mend the driver.")
    return "cpu"


def _precision(config: TrainingConfig, device: str) -> str:
    if config.precision != "auto":
        return config.precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


def _workers(config: TrainingConfig, device: str) -> int:
    if config.workers is not None:
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores - 1)) if device == "cuda" else 0


def _fingerprint(job: Job) -> str:
    config = job.config.model_dump(mode="json", exclude=_NOT_THE_MODEL)
    facts = [job.manifest.content_hash, config, job.spec.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice on workers and devices, which we have decided on, is not for our users."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # its own use of torch's internals
        yield
