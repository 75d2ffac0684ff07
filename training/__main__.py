"""`python -m training`: the learning code without Label Studio. Torch is imported where it is needed."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from model_zoo.errors import SRPUError
from training import commands
from training.data import commands as datasets
from training.progress import clear_error, write_error
from training.simulator import commands as simulator

BAD_INPUT = 2
ORPHANED = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 what it was given cannot be used."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    if getattr(options, "with_parent", False):
        end_with_parent(sys.stdin.buffer)
    folder: Path | None = options.error_folder(options) if hasattr(options, "error_folder") else None
    if folder is not None:
        clear_error(folder)
    try:
        return int(options.run(options))
    except SRPUError as error:
        _say(folder, str(error))
        return BAD_INPUT
    except Exception as error:  # a crash is re-raised, but whoever waits for us reads error.json
        _say(folder, f"{type(error).__name__}: {error}")
        raise


def end_with_parent(stream: BinaryIO) -> None:
    """End this process at once when `stream` ends: its other end is held by the process that started us."""

    def wait() -> None:
        # Unbuffered: a thread that sleeps in a buffered read aborts the interpreter when it ends.
        while os.read(stream.fileno(), 4096):
            pass
        os._exit(ORPHANED)

    threading.Thread(target=wait, name="with-parent", daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train, measure and simulate, from folders of images."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    train = _add(subparsers, "train", "train a model on a manifest", commands.TRAIN_EXAMPLES)
    commands.add_train_arguments(train)
    train.set_defaults(run=commands.train, error_folder=commands.train_folder)
    evaluate = _add(
        subparsers, "evaluate", "measure a model on a part of a manifest", commands.EVALUATE_EXAMPLES
    )
    commands.add_evaluate_arguments(evaluate)
    evaluate.set_defaults(run=commands.evaluate, error_folder=commands.evaluate_folder)
    for name, about, examples, add_arguments, run in datasets.COMMANDS:
        command = _add(subparsers, name, about, examples)
        add_arguments(command)
        command.set_defaults(run=run)
    simulate = _add(subparsers, "simulate", "write a folder of simulated micrographs")
    simulator.add_arguments(simulate)
    simulate.set_defaults(run=simulator.run)
    return parser


def _add(subparsers: Any, name: str, about: str, examples: str = "") -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=about,
        description=f"{about.capitalize()}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return command


def _say(folder: Path | None, message: str) -> None:
    print(message, file=sys.stderr)
    if folder is not None:
        write_error(folder, message)


if __name__ == "__main__":
    sys.exit(main())
