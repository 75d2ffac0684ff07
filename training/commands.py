"""`train` and `evaluate` of the command line. Torch is imported when a command runs, not for `--help`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from model_zoo.files import write_atomically
from training.config import load_config, presets
from training.data.manifest import Manifest, Part
from training.progress import Progress, ProgressFile

TRAIN_EXAMPLES = """examples:
  python -m training train --manifest data/manifest.json --out runs/first
  python -m training train --manifest data/manifest.json --out runs/second \\
      --preset gpu --set minutes=20 encoder=resnet50 augmentation.noise=0.05

A killed training goes on where it was when the same command is given again.
The folder then holds model.safetensors, model.onnx, card.json and tensorboard/."""

EVALUATE_EXAMPLES = """example:
  python -m training evaluate --model runs/first --manifest data/manifest.json \\
      --part test --out runs/first/test.json"""


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `train`."""
    parser.add_argument("--manifest", type=Path, required=True, help="JSON: classes, images, masks, groups")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, made if need be")
    parser.add_argument(
        "--preset", default="default", help=f"{', '.join(presets())}, or a YAML file (default: default)"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings on top of the preset",
    )
    _add_shared_arguments(parser, "the model's card")


def train(options: argparse.Namespace) -> int:
    """Train and say what came out; returns the exit code."""
    config = load_config(options.preset, options.overrides)
    manifest = Manifest.read(options.manifest)
    options.out.mkdir(parents=True, exist_ok=True)
    progress = ProgressFile(options.out)
    progress(Progress(stage="read", message="starting"))
    from training.supervised import train as run

    card = run(manifest, config, options.out, progress)
    if options.json:
        print(card.model_dump_json())
        return 0
    found = card.metrics
    print(
        f"{options.out}: {found['steps']} steps in {found['seconds']:.0f} s on "
        f"{card.training_images} images; mIoU on {found['train_images_scored']} of them "
        f"{_percent(found['train_miou'])}."
    )
    return 0


def train_folder(options: argparse.Namespace) -> Path:
    """Where `train` leaves error.json."""
    return Path(options.out)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate`."""
    parser.add_argument("--model", type=Path, required=True, help="folder with model and card.json")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--part", choices=get_args(Part), default="holdout", help="(default: holdout)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file: confusion matrices by image")
    parser.add_argument("--engine", choices=("auto", "onnx", "torch"), default="auto")
    _add_shared_arguments(parser, "the scores")


def evaluate(options: argparse.Namespace) -> int:
    """Measure, write the evaluation, and say what came out; returns the exit code."""
    from model_zoo.inference import Predictor
    from training.evaluation import evaluate as run

    manifest = Manifest.read(options.manifest)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    progress = ProgressFile(options.out.parent)

    def report(done: int, total: int) -> None:
        fraction = done / total if total else 1.0
        progress(Progress(stage="evaluate", fraction=fraction, message=f"measured {done} of {total} images"))

    predictor = Predictor.load(options.model, engine=options.engine)
    evaluation = run(predictor, manifest, options.part, report)
    write_atomically(options.out, evaluation.model_dump_json().encode())
    scores: dict[str, Any] = {
        "part": options.part,
        "images": len(evaluation.images),
        "miou": evaluation.miou,
        "iou": evaluation.iou,
        "problems": evaluation.problems,
    }
    if options.json:
        print(json.dumps(scores))
        return 0
    by_class = ", ".join(f"{name} {_percent(score)}" for name, score in evaluation.iou.items())
    print(f"{scores['images']} {options.part} images: mIoU {_percent(evaluation.miou)} ({by_class}).")
    return 0


def evaluate_folder(options: argparse.Namespace) -> Path:
    """Where `evaluate` leaves error.json."""
    return Path(options.out).parent


def _add_shared_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} as one line of JSON")
    parser.add_argument(
        "--with-parent", action="store_true", help="end when the standard input closes (for trainers)"
    )


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f} %"
