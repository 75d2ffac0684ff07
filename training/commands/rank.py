"""`python -m training rank`: which images to label next, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from model_zoo.card import STATE_NAME
from model_zoo.files import write_atomically
from training.active_learning.embedders import Embedder, EncoderFeatures, Texture
from training.active_learning.heatmaps import heatmap
from training.active_learning.images import NOTHING_LABELED, read_labeled
from training.active_learning.strategies import find_strategy, strategies
from training.commands.command import Bar, Command, add_json_argument
from training.data.micrograph import read_micrograph
from training.model_reference import find_model

if TYPE_CHECKING:
    from model_zoo.inference import Predictor
    from training.active_learning.ranking import Ranking

EXAMPLES = """examples:
  python -m training rank --images micrographs --out ranking.json           # before there is any model
  python -m training rank --model runs/first --images micrographs --labeled masks --out ranking.json
  python -m training rank --model runs/first --images micrographs --labeled labeled.txt \\
      --strategy coreset --budget 20 --heatmaps doubts --out ranking.json

strategies:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `rank`."""
    parser.add_argument("--images", type=Path, required=True, help="folder of images, subfolders too")
    parser.add_argument("--out", type=Path, required=True, help="JSON file: the ranking")
    parser.add_argument("--model", help="folder of a model (default: none, and the images alone decide)")
    parser.add_argument("--strategy", default="hybrid", help="see below (default: hybrid)")
    parser.add_argument("--budget", type=int, default=50, help="images to rank (default 50)")
    parser.add_argument(
        "--labeled", type=Path, help="what is labelled: text file of names, manifest, or folder of masks"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same ranking (default 0)")
    parser.add_argument(
        "--per-sequence",
        type=int,
        help="most images of one sequence in the batch; 0 for no limit (default: 1 for hybrid, else 0)",
    )
    parser.add_argument("--encoder", help="without a model: compare images by this encoder, with --weights")
    parser.add_argument("--weights", default="imagenet", help="`imagenet` or a file (default: imagenet)")
    parser.add_argument("--heatmaps", type=Path, help="folder for pictures of what the model is unsure of")
    parser.add_argument("--cache", type=Path, help="what was computed (default: OUT with the ending .cache)")
    parser.add_argument("--workers", type=int, default=0, help="threads that read (default: one per core)")
    add_json_argument(parser, "the ranking")


def run(options: argparse.Namespace) -> int:
    """Rank, write, tell; returns the exit code."""
    from model_zoo.inference import Predictor
    from model_zoo.integrity import sha256_of
    from training.active_learning.ranking import Request, rank

    strategy = find_strategy(options.strategy)
    model = None if options.model is None else find_model(options.model)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    request = Request(
        images=options.images,
        strategy=strategy,
        budget=options.budget,
        embedder=_embedder(options, model),
        cache=options.cache or options.out.with_suffix(".cache"),
        labeled=NOTHING_LABELED if options.labeled is None else read_labeled(options.labeled),
        predictor=None if model is None else Predictor.load(model),
        model_identity="" if model is None else sha256_of(model / STATE_NAME),
        seed=options.seed,
        per_group=options.per_sequence,
        workers=options.workers,
    )
    with Bar() as report:
        ranking = rank(request, report)
        if options.heatmaps is not None and request.predictor is not None:
            _draw(request.predictor, ranking, options.heatmaps, report)
    write_atomically(options.out, ranking.model_dump_json(indent=1).encode())
    _tell(options, ranking)
    return 0


def _embedder(options: argparse.Namespace, model: Path | None) -> Embedder:
    if model is not None:
        return EncoderFeatures.of_model(model)
    if options.encoder is not None:
        return EncoderFeatures.of_weights(options.encoder, options.weights)
    return Texture()


def _draw(
    predictor: Predictor, ranking: Ranking, folder: Path, report: Callable[[str, int, int], None]
) -> None:
    """A picture of each ranked image; a model of several frames sees the image repeated."""
    from training.active_learning.pool_answers import uncertain_map

    folder.mkdir(parents=True, exist_ok=True)
    for item in ranking.items:
        report("drawing", item.rank, len(ranking.items))
        image = read_micrograph(item.path)
        stack = image[None].repeat(predictor.card.spec.input_depth, axis=0)
        picture = heatmap(image, uncertain_map(predictor, stack))
        _, png = cv2.imencode(".png", picture[..., ::-1])
        name = item.key.replace("/", "_").replace("\\", "_")
        write_atomically(folder / f"{item.rank:04d}-{name}.png", png.tobytes(), durable=False)


def _tell(options: argparse.Namespace, ranking: Ranking) -> None:
    if options.json:
        print(ranking.model_dump_json())
        return
    for note in ranking.notes:
        print(note, file=sys.stderr)
    for image in ranking.skipped[:10]:
        print(f"{image.key}: {image.reason}", file=sys.stderr)
    if len(ranking.skipped) > 10:
        print(f"… and {len(ranking.skipped) - 10} more; see {options.out}.", file=sys.stderr)
    for item in ranking.items[:10]:
        print(f"{item.rank:4d}  {item.key}  [{item.arm}] {item.why}")
    if len(ranking.items) > 10:
        print(f"      … and {len(ranking.items) - 10} more")
    print(
        f"{len(ranking.items)} of {ranking.images - ranking.labeled} unlabelled images ranked by "
        f"{ranking.strategy} in {options.out}."
    )


def folder(options: argparse.Namespace) -> Path:
    """Where `rank` leaves error.json."""
    return Path(options.out).parent


COMMAND = Command(
    "rank",
    "say which images to label next, and why",
    add_arguments,
    run,
    EXAMPLES + "\n".join(f"  {each.name:18} {each.about}" for each in strategies().values()),
    folder,
)
