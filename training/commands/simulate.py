"""`python -m training simulate`: a folder of simulated micrographs."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.commands.command import Command
from training.simulator.config import SCENES, SimulatorConfig
from training.simulator.dataset import write_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--out", type=Path, required=True, help="folder for images/ masks/ classes.json")
    parser.add_argument("--count", type=int, default=24, help="number of images (default 24)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default 0)")
    parser.add_argument("--scene", choices=sorted(SCENES), default="alloy")
    parser.add_argument("--size", type=_size, default=(512, 512), metavar="WIDTHxHEIGHT", help="in px")
    parser.add_argument("--sequences", type=int, default=0, help="so many sequences among the images")
    parser.add_argument("--frames", type=int, default=4, help="frames of a sequence (default 4)")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--curtaining", type=float, default=0.0, help="amplitude of ion-beam stripes, 0 to 1")
    parser.add_argument("--no-info-bar", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and say what is in it; returns the exit code."""
    config = SimulatorConfig.scene(arguments.scene)
    imaging = config.imaging.model_copy(
        update={
            "bits": arguments.bits,
            "curtaining": arguments.curtaining,
            "info_bar": not arguments.no_info_bar,
        }
    )
    names = write_dataset(
        arguments.out,
        arguments.count,
        arguments.seed,
        arguments.size,
        sequences=arguments.sequences,
        frames=arguments.frames,
        config=config.model_copy(update={"imaging": imaging}),
    )
    classes = ", ".join(info.name for info in config.class_infos)
    print(f"{len(names)} images of {classes} are in {arguments.out}.")
    return 0


def _size(text: str) -> tuple[int, int]:
    """`640x480` (width × height) as (height, width)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x480, at least 64 px each way")
    return int(height), int(width)


COMMAND = Command("simulate", "write a folder of simulated micrographs", add_arguments, run)
