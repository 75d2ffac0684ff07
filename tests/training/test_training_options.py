"""The options that every command that trains has: the same as `--set`, shorter."""

from __future__ import annotations

import argparse

import pytest

from training.commands.training_options import _PLAIN, add_training_options, overrides_of
from training.config import TrainingConfig, load_config

pytestmark = pytest.mark.fast


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_training_options(parser)
    return parser.parse_args(arguments)


def test_every_plain_option_is_a_setting() -> None:
    assert {option.name for option in _PLAIN} <= set(TrainingConfig.model_fields)


def test_a_plain_option_is_the_same_as_set() -> None:
    options = parsed("--preset", "test", "--minutes", "3", "--input-depth", "5", "--encoder", "resnet50")
    assert load_config(options.preset, overrides_of(options)) == load_config(
        "test", ["minutes=3", "input_depth=5", "encoder=resnet50"]
    )


def test_what_is_not_given_overrides_nothing() -> None:
    assert overrides_of(parsed()) == []


def test_names_and_paths_are_taken_as_they_are() -> None:
    options = parsed("--weights", "runs/a: b #1.safetensors", "--encoder", "7")
    config = load_config(options.preset, overrides_of(options))
    assert (config.weights, config.encoder) == ("runs/a: b #1.safetensors", "7")


def test_set_comes_last() -> None:
    options = parsed("--set", "minutes=9", "--minutes", "3", "--set", "seed=2")
    config = load_config(options.preset, overrides_of(options))
    assert (config.minutes, config.seed) == (9, 2)
