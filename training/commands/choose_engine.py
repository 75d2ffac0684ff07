"""`python -m training choose-engine`: what will serve a model on machines like this one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from model_zoo.card import CARD_NAME, ModelCard
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from training.commands.command import Bar, Command, add_json_argument, add_parent_argument
from training.data.manifest import Manifest, Part
from training.model_reference import REFERENCES, find_model

if TYPE_CHECKING:
    from model_zoo.inference.engine_record import EngineChoice, EngineMeasurement

EXAMPLES = """examples:
  python -m training choose-engine --model runs/first --manifest data/manifest.json
  python -m training choose-engine --model runs/first --manifest data/manifest.json \\
      --part holdout --images 8 --threads 2
  python -m training choose-engine --model 3/champion --model-dir data/srpu \\
      --manifest data/manifest.json --only-measure

The choice is written into the model's card.json, where `--engine auto`, the default everywhere, finds it.
Published versions never change: with --only-measure they can be measured."""

IMAGES = 12


class PublishedModel(SRPUError):
    """A version's card must not be changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `choose-engine`."""
    parser.add_argument("--model", required=True, help=REFERENCES)
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="where projects lie (default: environment, MODEL_DIR)"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="whose images the engines are tried on")
    parser.add_argument("--part", choices=get_args(Part), default="holdout", help="(default: holdout)")
    parser.add_argument(
        "--images", type=_count, default=IMAGES, metavar="N", help=f"at most so many (default {IMAGES})"
    )
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads (default: one per core)")
    parser.add_argument("--only-measure", action="store_true", help="leave the model's card as it is")
    add_json_argument(parser, "the choice and all measurements")
    add_parent_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Try every engine, write the choice into the card, and say what came out; returns the exit code."""
    from model_zoo.inference.choice import choose_engine
    from training.engine_trial import examples_of

    folder = find_model(options.model, options.model_dir)
    card = ModelCard.read(folder)
    if card.version and not options.only_measure:
        raise PublishedModel(
            f"{folder} is version {card.version}, and versions never change; measure it with --only-measure."
        )
    examples = examples_of(Manifest.read(options.manifest), options.part, card, options.images)
    with Bar("engines") as bar:
        chosen = choose_engine(
            folder, examples, options.threads, lambda done, total: bar("measuring", done, total)
        )
    if not options.only_measure:
        write_atomically(folder / CARD_NAME, chosen.on(card).model_dump_json(indent=1).encode())
    print(chosen.model_dump_json() if options.json else "\n".join(_lines(chosen)))
    return 0


def _lines(chosen: EngineChoice) -> list[str]:
    head = f"{'engine':14} {'ms':>9} {'equal pixels':>13} {'IoU moved by':>13}"
    rows = [_row(one) for one in chosen.measured]
    return [
        head,
        *rows,
        f"{chosen.engine} is chosen: the fastest with the masks of float32 torch, on {chosen.processor} with "
        f"{chosen.threads} threads, {chosen.images} images.",
    ]


def _row(one: EngineMeasurement) -> str:
    if one.milliseconds is None or one.equal_pixels is None:
        return f"{one.engine:14} {one.note}"
    return (
        f"{one.engine:14} {one.milliseconds:9.1f} {100 * one.equal_pixels:11.4f} % "
        f"{one.iou_change:8.3f} pt  {one.note}"
    ).rstrip()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


COMMAND = Command(
    "choose-engine",
    "measure what serves a model fastest with equal masks, and note it in its card",
    add_arguments,
    run,
    examples=EXAMPLES,
)
