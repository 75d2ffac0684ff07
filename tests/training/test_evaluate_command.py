"""`python -m training evaluate`, as people use it; and docs/evaluating.md, as they read it."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from micrographs import CLASSES, picture, write_manifest

from training.__main__ import main
from training.data.masks import write_mask
from training.scoring.evaluation import Evaluation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Predictions shifted by 2 px, and what they are measured with; the output is `out/scores.json`."""
    write_manifest(tmp_path, ["train", "test", "test"])
    (tmp_path / "masks").mkdir()
    for number in range(3):
        shifted = np.roll(picture(number)[1], 2, axis=1)
        write_mask(tmp_path / "masks" / f"task-{number}.png", shifted, CLASSES)
    options = {
        "--predictions": "masks",
        "--manifest": "manifest.json",
        "--out": "out/scores.json",
    }
    return ["evaluate", *(word for name, path in options.items() for word in (name, str(tmp_path / path)))]


@pytest.mark.fast
def test_people_get_a_table_and_scripts_a_file(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--part", "test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 test images: mIoU ")
    assert lines[1].split() == ["IoU", "Dice", "boundary", "F1,", "2", "px"]
    assert [line.split()[0] for line in lines[2:6]] == ["matrix", "particle", "pore", "mean"]
    assert lines[6].startswith("Pixel accuracy ")
    written = Evaluation.model_validate_json((tmp_path / "out" / "scores.json").read_bytes())
    assert written.scores == written.scored()
    assert written.boundary_tolerance == 2.0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["progress.json", "scores.json"]


@pytest.mark.fast
def test_all_labelled_images_can_be_measured_at_once(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    strict = ["--part", "all", "--boundary-tolerance", "0", "--json"]
    assert main([*arguments, *strict]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["part"], told["images"]) == ("all", 3)
    assert told["scores"]["mean_boundary_f1"]["value"] < 0.8
    assert told["miou"] == told["scores"]["miou"]["value"]


@pytest.mark.fast
def test_a_report_is_written_where_it_is_asked_for(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    assert main([*arguments, "--part", "test", "--report", str(report), "--pictures", "1"]) == 0
    assert f"The report is {report / 'index.html'}." in capsys.readouterr().out
    assert len(list((report / "overlays").iterdir())) == 1
    assert "masks: how good it is" in (report / "index.html").read_text()


@pytest.mark.fast
def test_a_part_without_labels_says_where_there_are_some(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "0 holdout images: mIoU –" in said
    assert "labelled images of this manifest: 1 train, 2 test." in said


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--pictures", "3"], "say with --report DIR where to write it"),
        (["--manifest", "nowhere.json"], "nowhere.json does not exist"),
        (["--predictions", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_exit_code_2(
    changed: list[str], said: str, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *changed]) == 2
    assert said in capsys.readouterr().err
    assert said in json.loads((tmp_path / "out" / "error.json").read_bytes())["message"]


@pytest.mark.fast
@pytest.mark.parametrize("changed", [["--model", "run"], ["--boundary-tolerance", "-1"], ["--part", "some"]])
def test_options_that_make_no_sense_are_refused(changed: list[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main([*arguments, *changed])
    assert refused.value.code == 2


@pytest.mark.slow
def test_the_pages_commands_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_before = (
        "python -m training simulate --out alloy --count 6 --size 128x128",
        "python -m training index --labeled alloy --out data --generate-all",
        "python -m training train --manifest data/dataset.json --out runs/first --preset test "
        "--set max_steps=2 threads=1",
    )
    page = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")
    blocks = [block for block in page.split("```")[1::2] if block.startswith("\n")]
    commands = [line for block in blocks for line in block.strip().splitlines()]
    assert len(commands) == 3
    for command in made_before:
        assert main(shlex.split(command)[3:]) == 0
    shutil.copytree(tmp_path / "alloy" / "masks", tmp_path / "masks")
    for command in commands:
        assert main(shlex.split(command)[3:]) == 0
    assert Evaluation.model_validate_json((tmp_path / "masks.json").read_bytes()).miou == 1.0
    text = (tmp_path / "runs/first/report/index.html").read_text()
    assert "first: how good it is" in text
    assert (tmp_path / "runs/first/report/scores.csv").exists()
