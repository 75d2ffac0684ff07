"""Scores with their intervals, against other people's implementations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from model_zoo.card import ClassInfo
from training.data.manifest import Manifest, Sample
from training.data.masks import read_mask, write_mask
from training.scoring import metrics
from training.scoring.answers import FolderAnswers
from training.scoring.bootstrap import interval, resample, sum_units, units
from training.scoring.boundary import boundary_counts
from training.scoring.evaluation import measure
from training.scoring.scores import Scores, score

pytestmark = pytest.mark.fast

NAMES = ("matrix", "particle", "pore")


def images(count: int, seed: int = 0, wrong: float = 0.2) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction, each with every class; a share `wrong` of the pixels is drawn anew."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        truth = rng.choice(3, p=[0.7, 0.2, 0.1], size=(20, 30)).astype(np.uint8)
        anew = rng.random(truth.shape) < wrong * rng.uniform(0.2, 1.8)
        pairs.append((truth, np.where(anew, rng.integers(0, 3, truth.shape), truth).astype(np.uint8)))
    return pairs


def scored(pairs: list[tuple[np.ndarray, np.ndarray]], groups: list[str] | None = None) -> Scores:
    confusion = np.stack([metrics.confusion(truth, predicted, 3) for truth, predicted in pairs])
    boundary = np.stack([boundary_counts(truth, predicted, 3) for truth, predicted in pairs])
    return score(NAMES, groups or [f"g{n}" for n in range(len(pairs))], confusion, boundary)


def test_scores_are_scikit_learns() -> None:
    pairs = images(4)
    truth, predicted = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    found = scored(pairs)
    expected = {
        "iou": reference.jaccard_score(truth, predicted, average=None),
        "dice": reference.f1_score(truth, predicted, average=None),
        "precision": reference.precision_score(truth, predicted, average=None),
        "recall": reference.recall_score(truth, predicted, average=None),
    }
    for name, values in expected.items():
        np.testing.assert_allclose([getattr(of, name).value for of in found.classes], values)
    assert found.miou.value == pytest.approx(expected["iou"].mean())
    assert found.mean_dice.value == pytest.approx(expected["dice"].mean())
    assert found.accuracy.value == pytest.approx(reference.accuracy_score(truth, predicted))


def test_scores_are_those_of_an_independent_scorer(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "nasa_super"
    content = json.loads((folder / "classes.json").read_text())
    stems = json.loads((folder / "splits.json").read_text())["few"]["test"]
    classes = tuple(ClassInfo(name=entry["name"], color=entry["color"]) for entry in content["classes"])
    samples = []
    for place, stem in enumerate(stems):
        image, mask = (folder / kind / f"{stem}.png" for kind in ("images", "masks"))
        predicted = np.roll(read_mask(mask), 3 + place, axis=1)
        write_mask(tmp_path / f"{stem}.png", np.where(predicted == 255, 0, predicted), classes)
        samples.append(Sample(key=stem, image=image, mask=mask, group=stem, part="test"))
    scorer = [sys.executable, shared_data / "evaluate.py", folder, tmp_path, "--split", "few", "--json"]
    expected = json.loads(subprocess.run(scorer, capture_output=True, check=True).stdout)

    manifest = Manifest(classes=classes, samples=tuple(samples))
    evaluation = measure(FolderAnswers(tmp_path, classes), manifest, "test")
    found = evaluation.scored()
    assert evaluation.counts().sum(axis=0).tolist() == expected["confusion"]
    assert {of.name: of.iou.value for of in found.classes} == pytest.approx(expected["IoU"])
    assert {of.name: of.dice.value for of in found.classes} == pytest.approx(expected["Dice"])
    assert found.miou.value == pytest.approx(expected["mIoU"])
    assert found.mean_dice.value == pytest.approx(expected["macro_Dice"])
    assert found.accuracy.value == pytest.approx(expected["pixel_accuracy"])


@given(arrays(np.int64, (3, 3), elements=st.integers(0, 40)))
def test_dice_and_iou_tell_the_same(confusion: np.ndarray) -> None:
    iou = metrics.iou(confusion)
    np.testing.assert_allclose(metrics.dice(confusion), 2 * iou / (1 + iou))


def test_an_interval_holds_its_score_and_shrinks_with_more_groups() -> None:
    few, many = scored(images(4)), scored(images(40))
    for found in (few, many):
        everything = [found.miou, found.accuracy, found.mean_dice, found.mean_boundary_f1]
        everything += [
            value for of in found.classes for value in (of.iou, of.dice, of.boundary_f1, of.recall)
        ]
        for one in everything:
            assert one.interval is not None
            assert one.value is not None
            assert one.interval.low <= one.value <= one.interval.high
    assert many.miou.interval.high - many.miou.interval.low < few.miou.interval.high - few.miou.interval.low


def test_groups_are_drawn_and_not_images() -> None:
    """Twelve images of three specimens are three witnesses, not twelve."""
    pairs = [pair for pair in images(3) for _ in range(4)]
    alike = scored(pairs, [f"specimen-{n // 4}" for n in range(12)])
    apart = scored(pairs)
    assert (alike.images, alike.groups, apart.groups) == (12, 3, 12)
    assert alike.miou.interval.high - alike.miou.interval.low > 1.5 * (
        apart.miou.interval.high - apart.miou.interval.low
    )


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    """A check of the whole: many holdouts of 30 groups, whose true accuracy is known."""
    rng = np.random.default_rng(1)
    right = rng.binomial(1000, rng.beta(18, 2, size=(300, 30)))
    held = 0
    for row in right:
        confusion = np.zeros((30, 2, 2), dtype=np.int64)
        confusion[:, 0, 0], confusion[:, 0, 1] = row, 1000 - row
        found = score(("a", "b"), [str(n) for n in range(30)], confusion, resamples=400).accuracy.interval
        assert found is not None
        held += found.low <= 0.9 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_one_image_has_scores_and_no_interval() -> None:
    found = scored(images(1))
    assert found.miou.value is not None
    assert (found.miou.interval, found.resamples) == (None, 0)


def test_images_of_one_group_are_drawn_themselves() -> None:
    found = scored(images(5), ["only"] * 5)
    assert found.groups == 1
    assert found.miou.interval is not None


def test_without_images_and_without_outlines_there_are_no_scores() -> None:
    empty = score(NAMES, [], np.zeros((0, 3, 3), dtype=np.int64))
    assert (empty.images, empty.miou.value, empty.accuracy.value) == (0, None, None)
    confusion = np.stack([metrics.confusion(*pair, 3) for pair in images(2)])
    assert score(NAMES, ["a", "b"], confusion).mean_boundary_f1.value is None


def test_a_class_that_is_nowhere_in_the_truth_has_no_part_in_the_means() -> None:
    confusion = np.array([[[90, 0, 10], [0, 50, 0], [0, 0, 0]]])
    found = score(NAMES, ["a"], confusion)
    assert found.classes[2].iou.value == 0
    assert found.miou.value == pytest.approx((90 / 100 + 1) / 2)
    assert found.mean_dice.value == pytest.approx((180 / 190 + 1) / 2)


def test_the_same_seed_gives_the_same_intervals() -> None:
    assert scored(images(4)) == scored(images(4))
    counts = np.arange(12).reshape(4, 3)
    assert (resample(counts, 10, 0) != resample(counts, 10, 1)).any()


def test_draws_in_blocks_are_the_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).integers(0, 99, (7, 2, 2))
    at_once = resample(counts, 50, 3)
    monkeypatch.setattr("training.scoring.bootstrap._BLOCK", 20)
    np.testing.assert_array_equal(resample(counts, 50, 3), at_once)
    assert at_once.shape == (50, 2, 2)


def test_units_are_summed() -> None:
    unit, groups = units(["b", "a", "b"])
    assert groups == 2
    assert sum_units(np.array([[1], [10], [100]]), unit).tolist() == [[10], [101]]


def test_draws_without_a_score_have_no_say() -> None:
    assert interval(np.array([np.nan, np.nan])) is None
    found = interval(np.array([np.nan, 0.5, 0.5]))
    assert found is not None
    assert (found.low, found.high) == (0.5, 0.5)
