"""From labelled images to a model: read, train, average, export."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from model_zoo.architectures import stride
from model_zoo.card import CARD_NAME, ModelCard, ModelSpec
from model_zoo.errors import BrokenModel, SRPUError
from model_zoo.files import write_atomically
from model_zoo.inference import Predictor
from model_zoo.inference.engines import load_engine
from model_zoo.store import export_onnx, file_hashes, save_model
from training.code_version import code_version
from training.config import BadConfig, TrainingConfig
from training.config_text import CONFIG_NAME, commented
from training.data.dataset import LabelledImages
from training.data.manifest import Manifest
from training.fitting.fit import VALIDATION_NAME, Fitted, fit_within_memory
from training.fitting.hardware import ResolvedConfig, find_hardware, resolved
from training.fitting.job import Job
from training.fitting.launch import needs_processes, train_in_processes
from training.fitting.ranks import Ranks
from training.progress import Progress
from training.scoring.evaluation import evaluate

log = logging.getLogger(__name__)

_SCORED_IMAGES = 8  # training images the finished model is scored on, for the card


class NothingToTrainOn(SRPUError):
    """A manifest without enough to learn from."""


def train(
    manifest: Manifest,
    config: TrainingConfig,
    out: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    origins: Mapping[str, str] | None = None,
) -> ModelCard:
    """Train a model on the labelled `train` samples of `manifest` and leave it in `out`.

    `out` then holds `model.safetensors`, `model.onnx` (where the network can be exported), `card.json`
    with an empty version, `config.yaml` (every setting as it was on this machine, explained, with its origin
    of `origins`), and `tensorboard/`. A call that was killed goes on from `checkpoints/last.ckpt`
    when it is made again with the same data and configuration, within the same budget; one that had
    finished returns its card at once.

    Raises `NothingToTrainOn`, `BadConfig`, `UnsupportedModel`, `TrainingDiverged` or `OutOfMemory`.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = _finished(out, manifest, config)
    if finished is not None:
        report(Progress(stage="done", fraction=1.0, message="this model was finished before"))
        return finished
    if needs_processes(config, os.environ):
        return train_in_processes(manifest, config, out, report, origins or {})
    job = _job(manifest, config, out, report)
    if config.threads:
        torch.set_num_threads(config.threads)
    if job.ranks.is_first:
        write_atomically(out / CONFIG_NAME, _explained(job, origins or {}).encode())
    images = _read_images(job)
    fitted = fit_within_memory(job, images)
    shutil.rmtree(_mapped_images(job), ignore_errors=True)
    shutil.rmtree(out / VALIDATION_NAME, ignore_errors=True)
    if not job.ranks.is_first:
        return job.card(weights=fitted.weights)
    if fitted.weights.loaded == "none" and config.weights != "none":
        job.warnings.append(f"Trained from random weights. {fitted.weights.note}")
    card = _export(job, images, fitted)
    if not config.keep_checkpoints:
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    job.report(Progress(stage="done", fraction=1.0, step=card.metrics["steps"], message="done"))
    return card


def _job(manifest: Manifest, config: TrainingConfig, out: Path, report: Callable[[Progress], None]) -> Job:
    ranks = Ranks.from_environment(os.environ)
    if not ranks.is_first:
        report = _keep_quiet
    known = resolved(config, find_hardware(config.device), ranks)
    ranks.share(known.batch_size)
    if config.validation == "holdout" and not any(s.mask for s in manifest.of("holdout")):
        raise BadConfig(
            "`validation` is holdout, but no image of the manifest's part `holdout` is labelled; give the "
            "dataset.json of `python -m training split`, or set `validation` to none."
        )
    return Job(manifest, config, known, _spec(manifest, known), out, report, ranks)


def _explained(job: Job, origins: Mapping[str, str]) -> str:
    decided = [name for name, value in job.asked if value == "auto" and getattr(job.config, name) != "auto"]
    return commented(job.config, {**origins, **dict.fromkeys(decided, "auto, on this machine")})


def _keep_quiet(progress: Progress) -> None:
    """One process of several reports."""


def _finished(out: Path, manifest: Manifest, config: TrainingConfig) -> ModelCard | None:
    try:
        card = ModelCard.read(out)
    except BrokenModel:
        return None
    same = card.data_hash == manifest.content_hash and _is_asked(config, card.config)
    return card if same and card.files == file_hashes(out) else None


def _is_asked(config: TrainingConfig, done: dict[str, Any]) -> bool:
    """Whether `done` is what `config` asks for; what is left to the machine may be anything."""
    asked = config.model_dump(mode="json")
    return all(value in ("auto", done.get(name)) for name, value in asked.items()) and len(asked) == len(done)


def _spec(manifest: Manifest, config: ResolvedConfig) -> ModelSpec:
    if len(manifest.classes) < 2:
        raise NothingToTrainOn(
            f"The manifest has {len(manifest.classes)} class; a segmentation needs two or more, the "
            "background among them."
        )
    spec = ModelSpec(
        encoder=config.encoder,
        decoder=config.decoder,
        classes=len(manifest.classes),
        input_depth=config.input_depth,
        options=config.options,
    )
    step = stride(spec)
    for name, side in (("crop", config.crop), ("tile", config.tile)):
        if side % step:
            raise BadConfig(
                f"`{name}` is {side} px, but {config.encoder} with {config.decoder} takes multiples of "
                f"{step}; use {max(1, round(side / step)) * step}."
            )
    return spec


def _read_images(job: Job) -> LabelledImages:
    samples = [sample for sample in job.manifest.of("train") if sample.mask is not None]
    if not samples:
        raise NothingToTrainOn(
            f"None of the {len(job.manifest.samples)} samples of the manifest is labelled and for training; "
            "label at least one image."
        )

    def report(done: int, total: int) -> None:
        message = f"reading image {done + 1} of {total}"
        job.report(Progress(stage="read", fraction=done / total, message=message))

    shutil.rmtree(_mapped_images(job), ignore_errors=True)
    images = LabelledImages.load(samples, len(job.manifest.classes), job.config, _mapped_images(job), report)
    job.warnings.extend(images.problems)
    if not images.images:
        raise NothingToTrainOn(
            f"None of the {len(samples)} labelled images can be used. {images.problems[0]}"
        )
    _warn_of_missing_classes(job, images)
    return images


def _warn_of_missing_classes(job: Job, images: LabelledImages) -> None:
    counts = images.pixel_counts
    names = [info.name for info in job.manifest.classes]
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if len(missing) == len(names) - 1:
        (only,) = (name for name in names if name not in missing)
        job.warn(
            f"Only {only} is labelled, so the model will see {only} everywhere; label other classes too."
        )
    elif missing:
        job.warn(f"No training image shows {', '.join(missing)}, so the model cannot learn it.")


def _mapped_images(job: Job) -> Path:
    """Of this process alone."""
    return job.out / (f"decoded-{job.ranks.rank}" if job.ranks.count > 1 else "decoded")


def _export(job: Job, images: LabelledImages, fitted: Fitted) -> ModelCard:
    job.report(Progress(stage="export", step=fitted.learner.steps, message="exporting the model"))
    model = fitted.network.cpu().float().eval()
    save_model(model, job.out)
    try:
        export_onnx(model, job.spec, job.out)
    except BrokenModel as error:
        job.warn(f"There is no ONNX file, so predictions need torch and take longer: {error}")
    card = job.card(
        weights=fitted.weights,
        training_images=len(images.images),
        code_version=code_version(),
        files=file_hashes(job.out),
    )
    card = card.model_copy(update={"metrics": _metrics(job, images, fitted, card)})
    # Atomically and last of all: a folder with a card is a finished model.
    write_atomically(job.out / CARD_NAME, card.model_dump_json(indent=1).encode())
    return card


def _metrics(job: Job, images: LabelledImages, fitted: Fitted, card: ModelCard) -> dict[str, Any]:
    """What the run was like; the score on training images tells whether it learnt, not whether it is good."""
    keys = {image.key for image in images.images[:_SCORED_IMAGES]}
    some = job.manifest.model_copy(
        update={"samples": tuple(sample for sample in job.manifest.of("train") if sample.key in keys)}
    )

    def report(done: int, total: int) -> None:
        message = f"looking at training image {done} of {total}"
        job.report(Progress(stage="evaluate", fraction=done / total, message=message))

    learner = fitted.learner
    scored = evaluate(Predictor(card, load_engine(job.out, card, "auto", None)), some, "train", report)
    return {
        "mode": learner.mode,
        "steps": learner.steps,
        "crops": learner.seen,
        "seconds": round(learner.budget.elapsed, 1),
        "loss": learner.smoothed_loss,
        "train_miou": scored.miou,
        "train_iou": scored.iou,
        "train_images_scored": len(scored.images),
        "validation": fitted.validated,
        "processes": job.ranks.count,
        "warnings": job.warnings,
    }
