"""Counting a model's answers against the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from micrographs import CLASSES, picture, write_manifest, write_sample

from model_zoo.card import ClassInfo, ModelCard, ModelSpec
from model_zoo.inference import Segmentation
from training.data.manifest import Manifest
from training.scoring.answers import class_table
from training.scoring.evaluation import Evaluation, evaluate

pytestmark = pytest.mark.fast


class Grader:
    """A model that sees particles where it is bright and pores where it is dark, as `classes` has them."""

    def __init__(self, *classes: str, particle: int = 1, pore: int = 2, depth: int = 1) -> None:
        self.card = ModelCard(
            version="v0001-abcdef",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            spec=ModelSpec(classes=len(classes), input_depth=depth),
            classes=tuple(ClassInfo(name=name) for name in classes),
        )
        self.particle, self.pore = particle, pore

    def predict(self, stack: np.ndarray) -> Segmentation:
        grey = stack[len(stack) // 2]
        class_map = np.zeros(grey.shape, dtype=np.uint8)
        class_map[grey > 150] = self.particle
        class_map[grey < 75] = self.pore
        return Segmentation(class_map, np.zeros((len(self.card.classes), *grey.shape), dtype=np.float32))


def test_a_model_that_is_right_scores_one(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ["train", "holdout", "holdout"])
    found = evaluate(Grader("matrix", "particle", "pore"), manifest, "holdout")
    assert found.miou == pytest.approx(1.0, abs=0.01)
    assert [(image.key, image.group) for image in found.images] == [
        ("task-1", "task-1"),
        ("task-2", "task-2"),
    ]
    assert found.classes == ("matrix", "particle", "pore")
    assert found.model == "v0001-abcdef"
    assert int(found.counts().sum()) == 2 * 96 * 80


def test_classes_are_matched_by_name_and_not_by_place(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ["holdout"])
    found = evaluate(Grader("matrix", "pore", "particle", particle=2, pore=1), manifest, "holdout")
    assert found.miou == pytest.approx(1.0, abs=0.01)


def test_a_class_the_model_does_not_know_is_never_predicted(tmp_path: Path) -> None:
    found = evaluate(Grader("matrix", "particle", pore=0), write_manifest(tmp_path, ["holdout"]), "holdout")
    assert found.iou["pore"] == 0
    assert found.iou["particle"] == pytest.approx(1.0, abs=0.01)


def test_a_class_only_the_model_knows_counts_as_index_0(tmp_path: Path) -> None:
    card = Grader("matrix", "crack", "particle").card
    assert class_table(card, ["matrix", "particle", "pore"]).tolist() == [0, 0, 1]
    found = evaluate(
        Grader("matrix", "crack", "particle", particle=2, pore=1),
        write_manifest(tmp_path, ["holdout"]),
        "holdout",
    )
    assert found.counts().shape == (1, 3, 3)
    assert found.iou["pore"] == 0
    assert found.iou["particle"] == pytest.approx(1.0, abs=0.01)


def test_a_model_of_sequences_gets_its_neighbours(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ["holdout"])
    found = evaluate(Grader("matrix", "particle", "pore", depth=3), manifest, "holdout")
    assert found.miou == pytest.approx(1.0, abs=0.01)


def test_an_image_that_cannot_be_read_is_left_out_alone(tmp_path: Path) -> None:
    good = write_sample(tmp_path, "good", *picture(0), "holdout")
    bad = write_sample(tmp_path, "bad", picture(0)[0], picture(0, (30, 30))[1], "holdout")
    pool = write_sample(tmp_path, "pool", picture(1)[0], None, "holdout")
    manifest = Manifest(classes=CLASSES, samples=(bad, good, pool))
    found = evaluate(Grader("matrix", "particle", "pore"), manifest, "holdout")
    assert [image.key for image in found.images] == ["good"]
    assert len(found.problems) == 1
    assert "bad is left out" in found.problems[0]


def test_without_images_there_is_no_score(tmp_path: Path) -> None:
    found = evaluate(Grader("matrix", "particle", "pore"), write_manifest(tmp_path, ["train"]), "holdout")
    assert (found.images, found.miou) == ((), None)
    assert found.iou == {"matrix": None, "particle": None, "pore": None}


def test_progress_runs_from_none_to_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifest = write_manifest(tmp_path, ["holdout", "holdout"])
    evaluate(
        Grader("matrix", "particle", "pore"), manifest, "holdout", lambda *progress: seen.append(progress)
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_an_evaluation_survives_json(tmp_path: Path) -> None:
    found = evaluate(Grader("matrix", "particle", "pore"), write_manifest(tmp_path, ["holdout"]), "holdout")
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
