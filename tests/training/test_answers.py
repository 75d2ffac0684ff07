"""Predictions in a folder, measured like a model's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from micrographs import CLASSES, picture, write_manifest

from training.data.manifest import Manifest
from training.data.masks import write_mask
from training.scoring.answers import BadPrediction, FolderAnswers
from training.scoring.evaluation import labelled, measure

pytestmark = pytest.mark.fast


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_manifest(tmp_path, ["train", "holdout", "holdout"])


@pytest.fixture
def predictions(tmp_path: Path, manifest: Manifest) -> Path:
    folder = tmp_path / "predictions"
    folder.mkdir()
    for number in range(3):
        write_mask(folder / f"task-{number}.png", picture(number)[1], CLASSES)
    return folder


def test_the_truth_itself_scores_one(manifest: Manifest, predictions: Path) -> None:
    answers = FolderAnswers(predictions, CLASSES)
    answers.require(labelled(manifest, "all"))
    found = measure(answers, manifest, "all", boundary_tolerance=0.0)
    assert (found.miou, found.part, len(found.images)) == (1.0, "all", 3)
    assert found.scored().mean_boundary_f1.value == 1.0
    assert found.model == str(predictions)


def test_one_that_is_missing_stops_everything(manifest: Manifest, predictions: Path) -> None:
    (predictions / "task-2.png").unlink()
    answers = FolderAnswers(predictions, CLASSES)
    with pytest.raises(BadPrediction, match=r"1 of 3 predictions are missing in .*, the first task-2\.png"):
        answers.require(labelled(manifest, "all"))
    with pytest.raises(BadPrediction, match="task-2"):
        measure(answers, manifest, "holdout")


def test_what_does_not_fit_stops_everything(manifest: Manifest, predictions: Path) -> None:
    path = predictions / "task-1.png"
    answers = FolderAnswers(predictions, CLASSES)
    write_mask(path, np.zeros((5, 5), np.uint8), CLASSES)
    with pytest.raises(BadPrediction, match="5 × 5 px, its image"):
        measure(answers, manifest, "holdout")
    assert cv2.imwrite(str(path), np.full((96, 80), 3, np.uint8))
    with pytest.raises(BadPrediction, match="holds the index 3, but there are 3 classes"):
        measure(answers, manifest, "holdout")
    path.write_bytes(b"no picture")
    with pytest.raises(BadPrediction, match=r"task-1\.png"):
        measure(answers, manifest, "holdout")


def test_a_pixel_may_be_left_open_only_where_the_truth_is(
    tmp_path: Path, manifest: Manifest, predictions: Path
) -> None:
    truth = picture(1)[1]
    truth[:10] = 255
    write_mask(predictions / "task-1.png", truth, CLASSES)
    answers = FolderAnswers(predictions, CLASSES)
    with pytest.raises(BadPrediction, match=r"task-1 leaves 800 px open \(255\) that are labelled"):
        measure(answers, manifest, "holdout")
    write_mask(tmp_path / "task-1-mask.png", truth, CLASSES)
    assert measure(answers, manifest, "holdout").miou == 1.0


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadPrediction, match="is not a folder"):
        FolderAnswers(tmp_path / "nowhere", CLASSES)
