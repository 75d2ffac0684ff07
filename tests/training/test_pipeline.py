"""From folders to a model, with the smallest network there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_zoo.inference import Predictor
from training.__main__ import main
from training.data.manifest import Manifest
from training.pipeline.rehearsal import Kind, Rehearsal, choose
from training.scoring.evaluation import Evaluation, ImageScore
from training.simulator import write_dataset


def rehearsal(kind: Kind, *hits: int) -> Rehearsal:
    """Two classes of 100 px each an image; `hits` of each are right."""
    images = tuple(
        ImageScore(key=f"{n}", group=f"{n}", confusion=((hit, 100 - hit), (100 - hit, hit)))
        for n, hit in enumerate(hits)
    )
    evaluation = Evaluation(model="", part="holdout", classes=("a", "b"), images=images)
    return Rehearsal(normalisation=kind, minutes=1, evaluation=evaluation)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ((80, 80, 80), "percentile"),  # equal
        ((81, 81, 81), "percentile"),  # better, but not clearly
        ((99, 70, 80), "percentile"),  # better on the mean, by one image
        ((90, 90, 90), "range"),
        ((60, 60, 60), "percentile"),
    ],
)
def test_the_other_normalisation_is_taken_only_where_it_is_clearly_better(
    others: tuple[int, ...], chosen: Kind
) -> None:
    assert choose([rehearsal("percentile", 80, 80, 80), rehearsal("range", *others)]).normalisation == chosen


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight labelled images and two without a mask."""
    folder = tmp_path_factory.mktemp("micrographs")
    write_dataset(folder, 10, 3, (128, 128))
    for mask in sorted((folder / "masks").iterdir())[-2:]:
        mask.unlink()
    return folder


def pipeline(micrographs: Path, out: Path, *more: str) -> int:
    folders = ["--raw", str(micrographs / "images"), "--labeled", str(micrographs / "masks")]
    classes = ["--classes", str(micrographs / "classes.json")]
    training = ["--preset", "test", "--minutes", "5", "--threads", "1", "--set", "max_steps=6"]
    return main(["pipeline", *folders, *classes, "--out", str(out), *training, *more])


@pytest.mark.slow
def test_folders_become_a_model_that_has_learnt_from_all_labels(
    micrographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert pipeline(micrographs, out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert (summary["labeled"], summary["unlabeled"], summary["steps"]) == (8, 2, 6)
    assert 0 < summary["held_out_images"] < 8
    assert 0 <= summary["held_out_miou"] <= 1
    card = Predictor.load(out / "model").card
    assert card.training_images == 8
    assert card.config["minutes"] == pytest.approx(5 * (1 - 2 * 0.12))
    assert card.normalisation.kind == summary["normalisation"]
    rehearsed = Predictor.load(out / "rehearsals" / "range").card
    assert rehearsed.training_images == 8 - summary["held_out_images"]
    assert rehearsed.normalisation.kind == "range"
    held_out = {sample.key for sample in Manifest.read(out / "index" / "dataset.json").of("holdout")}
    assert len(held_out) == summary["held_out_images"]

    made = (out / "model" / "model.safetensors").stat().st_mtime_ns
    assert pipeline(micrographs, out) == 0  # again: nothing is done twice
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == made
    assert "A rehearsal without" in capsys.readouterr().out


@pytest.mark.slow
def test_a_normalisation_that_was_asked_for_is_not_put_to_the_choice(
    micrographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--set", "normalisation.kind=range", "max_steps=2"]
    assert pipeline(micrographs, tmp_path / "out", "--json", *asked) == 0
    assert json.loads(capsys.readouterr().out)["normalisation"] == "range"
    assert [folder.name for folder in (tmp_path / "out" / "rehearsals").iterdir()] == ["range"]


@pytest.mark.slow
def test_few_labels_are_all_learnt_from_and_the_lack_of_a_judge_is_said(
    micrographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for mask in sorted((micrographs / "masks").iterdir())[:2]:
        (few / mask.name).write_bytes(mask.read_bytes())
    folders = ["--raw", str(micrographs / "images"), "--labeled", str(few)]
    classes = ["--classes", str(micrographs / "classes.json"), "--out", str(tmp_path / "out")]
    training = ["--preset", "test", "--threads", "1", "--set", "max_steps=2"]
    assert main(["pipeline", *folders, *classes, *training, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["labeled"], summary["held_out_images"], summary["held_out_miou"]) == (2, 0, None)
    assert any("too few to hold any out" in warning for warning in summary["warnings"])


@pytest.mark.fast
def test_folders_without_a_mask_are_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "raw", 1, 0, (64, 64))
    (tmp_path / "none").mkdir()
    raw = ["--raw", str(tmp_path / "raw" / "images"), "--labeled", str(tmp_path / "none")]
    assert main(["pipeline", *raw, "--out", str(tmp_path / "out")]) == 2
    assert "a mask is called like its image" in capsys.readouterr().err
    assert "mask" in json.loads((tmp_path / "out" / "error.json").read_text())["message"]
