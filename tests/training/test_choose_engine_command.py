"""`choose-engine`: measured on a manifest's images, noted in the card; published cards stay as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_zoo.card import ClassInfo, ModelCard, ModelSpec
from model_zoo.inference.engine_record import EngineChoice
from tests.model_zoo.model_folders import TINY, write_model
from training.__main__ import main
from training.data.manifest import Manifest, Sample
from training.engine_trial import truth_table

CLASSES = (ClassInfo(name="class 0"), ClassInfo(name="unknown"), ClassInfo(name="class 1"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(
        tmp_path / "model", ModelSpec(encoder="tu-test_resnet", classes=2, options=TINY), tile=64
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    samples = []
    for number in range(3):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}-mask.png"
        cv2.imwrite(str(image), random.integers(0, 256, (64, 80), dtype=np.uint8))
        cv2.imwrite(str(mask), random.integers(0, 3, (64, 80), dtype=np.uint8))
        samples.append(Sample(key=str(number), image=image, mask=mask, group=str(number), part="holdout"))
    path = tmp_path / "manifest.json"
    Manifest(classes=CLASSES, samples=tuple(samples)).write(path)
    return path


def choose(model: Path, manifest: Path, *options: str) -> int:
    given = ["--model", str(model), "--manifest", str(manifest), "--threads", "1", *options]
    return main(["choose-engine", *given])


def test_the_choice_is_noted_in_the_card(model: Path, manifest: Path, capsys: Any) -> None:
    assert choose(model, manifest, "--json", "--images", "2") == 0
    printed = json.loads(capsys.readouterr().out)
    chosen = EngineChoice.of(ModelCard.read(model))
    assert chosen is not None
    assert chosen.model_dump(mode="json") == printed
    assert chosen.images == 2
    assert {one.engine for one in chosen.measured if one.eligible} >= {"torch", "onnx"}


def test_a_published_card_stays_as_it_is(model: Path, manifest: Path, capsys: Any) -> None:
    card = ModelCard.read(model).model_copy(update={"version": "v0001-abc123"})
    card.write(model)
    assert choose(model, manifest) == 2
    assert "versions never change" in capsys.readouterr().err
    assert choose(model, manifest, "--only-measure") == 0
    assert ModelCard.read(model) == card
    assert "is chosen" in capsys.readouterr().out


def test_a_part_without_images_says_so(model: Path, manifest: Path, capsys: Any) -> None:
    assert choose(model, manifest, "--part", "test") == 2
    assert "part test has no image" in capsys.readouterr().err


def test_classes_are_matched_by_name(model: Path) -> None:
    table = truth_table(CLASSES, ModelCard.read(model))
    assert table[:3].tolist() == [0, 255, 1]
    assert table[255] == 255
