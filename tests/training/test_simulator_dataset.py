"""A folder of simulated images: names, classes, and the same bytes for the same seed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from training.commands import simulate as command
from training.data.masks import read_mask
from training.data.names import group_of, parse_name
from training.simulator import simulate, write_dataset
from training.simulator.config import SimulatorConfig
from training.simulator.dataset import BadDataset

pytestmark = pytest.mark.fast
SIZE = (96, 128)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_dataset(tmp_path / name, 4, 11, SIZE, sequences=1, frames=2)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_larger_count_only_adds_images(tmp_path: Path) -> None:
    few = write_dataset(tmp_path / "few", 2, 5, SIZE)
    many = write_dataset(tmp_path / "many", 3, 5, SIZE)
    assert many[:2] == few
    for name in few:
        assert (tmp_path / "few/images" / name).read_bytes() == (tmp_path / "many/images" / name).read_bytes()


def test_frames_of_a_sequence_share_a_group_and_single_images_do_not(tmp_path: Path) -> None:
    names = write_dataset(tmp_path, 8, 0, SIZE, sequences=2, frames=3)
    assert names[:3] == ["3.0V-001.png", "3.0V-002.png", "3.0V-003.png"]
    assert parse_name(names[1]).frame == 2
    assert [group_of(name) for name in names] == ["3.0V"] * 3 + ["3.1V"] * 3 + ["0001", "0002"]


def test_the_folder_holds_what_its_classes_say(tmp_path: Path) -> None:
    names = write_dataset(tmp_path, 2, 9, SIZE)
    listed = json.loads((tmp_path / "classes.json").read_text())
    assert [(entry["index"], entry["name"]) for entry in listed["classes"]] == [
        (0, "matrix"),
        (1, "particle"),
        (2, "pore"),
        (3, "crack"),
    ]
    mask = read_mask(tmp_path / "masks" / names[0])
    truth = simulate(SimulatorConfig(size=SIZE), (9, 2, 0)).mask
    np.testing.assert_array_equal(mask, truth)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_more_frames_than_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="raise the count"):
        write_dataset(tmp_path, 5, 0, SIZE, sequences=2, frames=3)


def test_the_command_writes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    asked = ["--out", str(tmp_path), "--count", "1", "--scene", "powder", "--size", "128x96"]
    assert command.run(parser.parse_args(asked)) == 0
    assert "1 images of matrix, particle" in capsys.readouterr().out
    assert read_mask(tmp_path / "masks/0001.png").shape == (96, 128)
