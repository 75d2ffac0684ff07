"""`python -m training train`: a manifest in, a model out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from model_zoo.card import ModelCard
from training.commands.command import Command, add_json_argument, add_parent_argument, percent
from training.commands.training_bar import TrainingBar
from training.commands.training_options import add_training_options, overrides_of
from training.config import resolve
from training.data.manifest import Manifest
from training.progress import Progress, ProgressFile

EXAMPLES = """examples:
  python -m training train --manifest data/manifest.json --out runs/first
  python -m training train --manifest data/manifest.json --out runs/second \\
      --preset gpu --minutes 20 --encoder resnet50 --set augmentation.noise=0.05

A killed training goes on where it was when the same command is given again.
The folder then holds model.safetensors, model.onnx, card.json and tensorboard/."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `train`."""
    parser.add_argument("--manifest", type=Path, required=True, help="JSON: classes, images, masks, groups")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, made if need be")
    add_training_options(parser)
    add_json_argument(parser, "the model's card")
    add_parent_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Train and say what came out; returns the exit code."""
    asked = resolve(options.preset, overrides_of(options), os.environ)
    manifest = Manifest.read(options.manifest)
    options.out.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, if it did
    file = ProgressFile(options.out)
    with TrainingBar() as bar:

        def report(progress: Progress) -> None:
            if first:
                file(progress)
                bar(progress)

        report(Progress(stage="read", message="starting"))
        from training.supervised import train

        card = train(manifest, asked.config, options.out, report, asked.origins)
    if first:
        _tell(options, card)
    return 0


def _tell(options: argparse.Namespace, card: ModelCard) -> None:
    if options.json:
        print(card.model_dump_json())
        return
    found = card.metrics
    print(
        f"{options.out}: {found['steps']} steps in {found['seconds']:.0f} s on "
        f"{card.training_images} images; mIoU on {found['train_images_scored']} of them "
        f"{percent(found['train_miou'])}."
    )


def folder(options: argparse.Namespace) -> Path:
    """Where `train` leaves error.json."""
    return Path(options.out)


COMMAND = Command("train", "train a model on a manifest", add_arguments, run, EXAMPLES, folder)
