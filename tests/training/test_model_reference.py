from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_zoo.card import CARD_NAME, STATE_NAME, ModelCard, ModelSpec
from model_zoo.errors import SRPUError
from model_zoo.registry import Registry
from training.model_reference import UnknownModel, find_model

pytestmark = pytest.mark.fast


def model(folder: Path, version: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / STATE_NAME).write_bytes(version.encode())
    ModelCard(
        version=version, created_at=datetime(2026, 1, 1, tzinfo=UTC), spec=ModelSpec(classes=2), classes=()
    ).write(folder)
    return folder


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Project 3 with two versions, the first promoted; project 12 with one, none promoted."""
    root = tmp_path / "state"
    for project, version in (("3", "v0001-aaaaaa"), ("3", "v0002-bbbbbb"), ("12", "v0001-cccccc")):
        made = model(tmp_path / "made" / f"{project}-{version}", version)
        Registry(root / "projects" / project / "models").publish(made, ModelCard.read(made))
    Registry(root / "projects" / "3" / "models").promote("v0001-aaaaaa", "the first")
    return root


def test_a_folder_with_a_card_is_a_model(tmp_path: Path) -> None:
    folder = model(tmp_path / "runs" / "first")
    assert find_model(str(folder)) == folder
    assert find_model(folder) == folder


def test_what_pipeline_leaves_is_a_model(tmp_path: Path) -> None:
    folder = model(tmp_path / "alloy" / "model")
    assert find_model(tmp_path / "alloy") == folder


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3", "v0001-aaaaaa"),
        ("3/champion", "v0001-aaaaaa"),
        ("3/v0002-bbbbbb", "v0002-bbbbbb"),
        ("12/v0001-cccccc", "v0001-cccccc"),
    ],
)
def test_a_project_names_its_champion_or_a_version(
    text: str, version: str, model_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ModelCard.read(find_model(text, model_dir)).version == version
    monkeypatch.setenv("MODEL_DIR", str(model_dir))
    assert ModelCard.read(find_model(text)).version == version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4", "models there are: 3/v0002-bbbbbb, 3/v0001-aaaaaa, 12/v0001-cccccc"),
        ("../3", "is not a model"),
        ("3/v0009-aaaaaa", "versions: v0001-aaaaaa, v0002-bbbbbb"),
        ("12", "no champion yet; its versions: 12/v0001-cccccc"),
    ],
)
def test_an_unknown_one_is_told_what_there_is(
    text: str, said: str, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_dir)
    with pytest.raises(SRPUError) as told:
        find_model(text, model_dir)
    assert said in str(told.value)


def test_a_folder_that_is_none_is_told_what_lies_in_it(tmp_path: Path) -> None:
    model(tmp_path / "runs" / "first")
    model(tmp_path / "runs" / "second" / "model")
    with pytest.raises(UnknownModel, match=r"has no card\.json; models there are: .*first, .*second"):
        find_model(tmp_path / "runs")
    with pytest.raises(UnknownModel, match=r"no such folder or project; models there are: .*first"):
        find_model(tmp_path / "runs" / "frist")


def test_an_unfinished_training_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UnknownModel, match="training has not ended"):
        find_model(tmp_path / "run")


def test_without_any_model_the_kinds_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_DIR", raising=False)
    with pytest.raises(UnknownModel, match="give a version's folder, a run of"):
        find_model(tmp_path / "nothing")
    (tmp_path / CARD_NAME.replace("card", "notes")).write_text(json.dumps({}))
    with pytest.raises(UnknownModel, match="it is a file"):
        find_model(tmp_path / "notes.json")
