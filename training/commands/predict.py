"""`python -m training predict`: a mask for each micrograph in a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from model_zoo.inference.engine_record import EngineName
from training.commands.command import Bar, Command, add_json_argument, percent
from training.data.names import compile_pattern
from training.model_reference import REFERENCES, find_model

if TYPE_CHECKING:
    from training.predicting.prediction import PredictionSummary

EXAMPLES = """examples:
  python -m training predict --model alloy-model --images alloy/images --out masks
  python -m training predict --model runs/first --images new --out masks --overlays --probabilities
  python -m training predict --model 3/champion --model-dir data/srpu --images a.tif b.tif --out masks
  python -m training predict --model runs/first --images new --out masks --resume

A mask is a palette PNG, pixel = class index, named as its image, in the same subfolder; classes.json beside
says what the indices are. Images that cannot be read are left out and named; the exit code is 0, and 2 where
none could be read."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--model` and `--model-dir`."""
    parser.add_argument("--model", required=True, help=REFERENCES)
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="where projects lie (default: environment, MODEL_DIR)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model_options(parser)
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, metavar="DIR", help="folders of images, or images"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks, made if need be")
    parser.add_argument("--overlays", action="store_true", help="pictures with the classes tinted, as PNG")
    parser.add_argument(
        "--probabilities", action="store_true", help="a grey PNG for each class: 0 … 255 is 0 … 1"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave what the same model has predicted in OUT already"
    )
    parser.add_argument("--pattern", help="regular expression with (?P<sequence>…) and (?P<frame>…)")
    parser.add_argument(
        "--engine",
        choices=get_args(EngineName),
        default="auto",
        help="(default: auto, what was chosen for the model, else ONNX Runtime)",
    )
    parser.add_argument(
        "--mirrored",
        action="store_true",
        help="average over mirror images: a little better, four times slower",
    )
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads (default: one per core)")
    add_json_argument(parser, "the summary")


def run(options: argparse.Namespace) -> int:
    """Predict, name what was left out, and tell the summary; returns the exit code."""
    from training.predicting.prediction import PredictionOptions, predict_with

    asked = PredictionOptions(
        out=options.out,
        overlays=options.overlays,
        probabilities=options.probabilities,
        resume=options.resume,
        pattern=compile_pattern(options.pattern) if options.pattern else None,
    )
    folder = find_model(options.model, options.model_dir)
    with Bar() as report:
        summary = predict_with(
            folder, options.images, asked, report, options.engine, options.threads, options.mirrored
        )
    for image, reason in summary.left_out.items():
        print(f"{image} is left out: {reason}", file=sys.stderr)
    print(summary.model_dump_json() if options.json else "\n".join(_lines(summary)))
    return 0


def _lines(summary: PredictionSummary) -> list[str]:
    """For people."""
    width = max(map(len, summary.classes))
    resumed = f", {summary.resumed} of them from before" if summary.resumed else ""
    left_out = f"; {len(summary.left_out)} left out" if summary.left_out else ""
    noun = "mask" if summary.images == 1 else "masks"
    return [
        f"{summary.images} {noun} in {summary.out}{resumed}{left_out}. {summary.seconds:.1f} s.",
        *(f"{name.ljust(width)}  {percent(share)} of the area" for name, share in summary.classes.items()),
    ]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


COMMAND = Command("predict", "write a mask for each image of a folder", add_arguments, run, EXAMPLES)
