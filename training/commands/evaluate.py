"""`python -m training evaluate`: a model counted against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from model_zoo.files import write_atomically
from training.commands.command import Command, add_json_argument, add_parent_argument, percent
from training.data.manifest import Manifest, Part
from training.progress import Progress, ProgressFile

EXAMPLES = """example:
  python -m training evaluate --model runs/first --manifest data/manifest.json \\
      --part test --out runs/first/test.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate`."""
    parser.add_argument("--model", type=Path, required=True, help="folder with model and card.json")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--part", choices=get_args(Part), default="holdout", help="(default: holdout)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file: confusion matrices by image")
    parser.add_argument("--engine", choices=("auto", "onnx", "torch"), default="auto")
    add_json_argument(parser, "the scores")
    add_parent_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, write the evaluation, and say what came out; returns the exit code."""
    from model_zoo.inference import Predictor
    from training.evaluation import evaluate

    manifest = Manifest.read(options.manifest)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    progress = ProgressFile(options.out.parent)

    def report(done: int, total: int) -> None:
        fraction = done / total if total else 1.0
        progress(Progress(stage="evaluate", fraction=fraction, message=f"measured {done} of {total} images"))

    predictor = Predictor.load(options.model, engine=options.engine)
    evaluation = evaluate(predictor, manifest, options.part, report)
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
    by_class = ", ".join(f"{name} {percent(score)}" for name, score in evaluation.iou.items())
    print(f"{scores['images']} {options.part} images: mIoU {percent(evaluation.miou)} ({by_class}).")
    return 0


def folder(options: argparse.Namespace) -> Path:
    """Where `evaluate` leaves error.json."""
    return Path(options.out).parent


COMMAND = Command("evaluate", "measure a model on a part of a manifest", add_arguments, run, EXAMPLES, folder)
