"""`python -m training augment-preview`: a picture of what the augmentation does to images."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from training.commands.command import Bar, Command, add_json_argument
from training.commands.training_options import add_training_options, overrides_of
from training.config import TrainingConfig, load_config
from training.data.manifest import Manifest

_CROP = 256  # px, where the settings leave it to the machine

EXAMPLES = """examples:
  python -m training augment-preview --manifest data/dataset.json --out sheet.png
  python -m training augment-preview --manifest data/dataset.json --out each.png --each
  python -m training augment-preview --manifest data/dataset.json --out strong.png --images 3 --columns 8 \\
      --set augmentation.charging=0.5 augmentation.probabilities.charging=1

A row is an image: a crop with its classes tinted, then changes of it with their outlines. With --each, a row
is one change alone, as strong as the settings allow, always happening. Stripes: ignored."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--manifest", type=Path, required=True, help="JSON; its part `train` is shown")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="picture to be written")
    parser.add_argument("--images", type=_count, default=6, metavar="N", help="at most so many (default 6)")
    parser.add_argument(
        "--columns", type=_count, default=6, metavar="N", help="pictures in a row, the first unchanged"
    )
    parser.add_argument("--each", action="store_true", help="a row for each change alone")
    parser.add_argument(
        "--for-validation", action="store_true", help="show `validation_augmentation`, not `augmentation`"
    )
    add_training_options(parser)
    add_json_argument(parser, "what was drawn")


def run(options: argparse.Namespace) -> int:
    """Draw the sheet and say what is in it; returns the exit code."""
    config = load_config(options.preset, overrides_of(options), os.environ)
    manifest = Manifest.read(options.manifest)
    crop = config.crop if isinstance(config.crop, int) else _CROP
    names = _draw(options, config, manifest, crop)
    if options.json:
        print(json.dumps({"out": str(options.out), "rows": names}, ensure_ascii=False))
    else:
        print(f"{options.out}: {len(names)} rows of {options.columns} pictures of {crop} px.")
    return 0


def _draw(options: argparse.Namespace, config: TrainingConfig, manifest: Manifest, crop: int) -> list[str]:
    """Write the picture; returns what its rows are called."""
    from training.augmentation.preview import changes_alone, rows_of, sheet, spread, write_picture
    from training.data.dataset import LabelledImages

    samples = spread(manifest.of("train"), options.images)
    augmentation = config.validation_augmentation if options.for_validation else config.augmentation
    make = changes_alone if options.each else rows_of
    with TemporaryDirectory() as folder, Bar("rows") as report:
        images = LabelledImages.load(
            samples,
            len(manifest.classes),
            config,
            Path(folder),
            lambda done, total: report("images", done, total),
        )
        rows = []
        for row in make(images, manifest.classes, augmentation, crop, options.columns, config.seed):
            rows.append(row)
            report("rows", len(rows), 0)
    write_picture(options.out, sheet(rows))
    return [row.name for row in rows]


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100")
    return int(text)


COMMAND = Command(
    "augment-preview", "draw what the augmentation does to images", add_arguments, run, EXAMPLES
)
