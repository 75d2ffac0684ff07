"""`python -m training config`: which settings a training would have, and what they mean."""

from __future__ import annotations

import argparse
import os

from training.commands.command import Command, add_json_argument
from training.commands.training_options import add_training_options, overrides_of
from training.config import resolve
from training.config_text import commented

EXAMPLES = """examples:
  python -m training config
  python -m training config --preset gpu --minutes 20 > mine.yaml     # then: train --preset mine.yaml
  SRPU_TRAINING__LR=3e-4 python -m training config --set augmentation.noise=0.05

The strongest wins: built-in defaults, preset, environment (SRPU_TRAINING__NAME, blocks with __), command
line. What is `auto` is decided by the machine that trains, and recorded in the run's config.yaml."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `config`."""
    add_training_options(parser)
    add_json_argument(parser, "the settings and their origins")


def run(options: argparse.Namespace) -> int:
    """Print the configuration; returns the exit code."""
    found = resolve(options.preset, overrides_of(options), os.environ)
    if options.json:
        print(found.as_json())
    else:
        print(commented(found.config, found.origins), end="")
    return 0


COMMAND = Command("config", "print the settings of a training, explained", add_arguments, run, EXAMPLES)
