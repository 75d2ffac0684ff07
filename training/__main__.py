"""`python -m training`: the learning code without Label Studio. Torch is imported where it is needed."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from model_zoo.errors import SRPUError
from training.commands import (
    augment_preview,
    choose_engine,
    config,
    datasets,
    evaluate,
    export,
    measure,
    models,
    pipeline,
    predict,
    rank,
    simulate,
    train,
)
from training.commands.command import Command
from training.progress import clear_error, write_error
from training.with_parent import end_with_parent

COMMANDS = (
    pipeline.COMMAND,
    datasets.INDEX,
    datasets.SPLIT,
    datasets.STATS,
    datasets.CHECK,
    augment_preview.COMMAND,
    train.COMMAND,
    config.COMMAND,
    evaluate.COMMAND,
    choose_engine.COMMAND,
    predict.COMMAND,
    measure.COMMAND,
    export.COMMAND,
    rank.COMMAND,
    models.COMMAND,
    simulate.COMMAND,
)

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 2 what it was given cannot be used."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    if getattr(options, "with_parent", False):
        end_with_parent(sys.stdin.buffer)
    command: Command = options.command
    folder = command.folder(options) if command.folder else None
    if folder is not None:
        clear_error(folder)
    try:
        return command.run(options)
    except SRPUError as error:
        _say(folder, str(error))
        return BAD_INPUT
    except Exception as error:  # a crash is re-raised, but whoever waits for us reads error.json
        _say(folder, f"{type(error).__name__}: {error}")
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train, measure and simulate, from folders of images."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(subparsers)
    return parser


def _say(folder: Path | None, message: str) -> None:
    print(message, file=sys.stderr)
    if folder is not None:
        write_error(folder, message)


if __name__ == "__main__":
    sys.exit(main())
