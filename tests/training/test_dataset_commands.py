"""The commands on datasets, as a shell runs them; and every command that docs/folders.md shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from micrograph_folders import SIZE, blocks, texture, write_classes, write_image, write_labelled

from training.__main__ import main

pytestmark = pytest.mark.fast
DOCS = Path(__file__).resolve().parents[2] / "docs" / "folders.md"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_every_command_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, name in (("data/raw", "a-1"), ("micrographs", "a-1"), ("films/one", "0001"), ("images", "a")):
        write_image(tmp_path / folder / f"{name}.png", texture([len(folder)]))
    for folder in ("data/labeled", "masks"):
        write_image(tmp_path / folder / "a-1.png", blocks())
    write_classes(tmp_path / "data/labeled/classes.json")
    write_classes(tmp_path / "classes.yaml")  # JSON is YAML
    write_labelled(tmp_path / "alloy", [f"{name}-1" for name in "abcdefgh"])
    box = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["pore"]}
    drawn = [{"result": [{"id": "r", "type": "rectanglelabels", "value": box}]}]
    export = [{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": drawn}]
    (tmp_path / "export.json").write_text(json.dumps(export))
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^python -m training (.+)$", DOCS.read_text(), re.MULTILINE)
    assert len(commands) >= 7
    for command in commands:
        code, out, err = run(capsys, *shlex.split(command))
        assert (code, err) == (0, ""), command
        assert out
    assert {path.name for path in (tmp_path / "data").iterdir()} >= {
        "master_labeled_dataset.json",
        "master_unlabeled_dataset.json",
    }
    assert (tmp_path / "alloy-index/dataset_stats.json").exists()


def test_index_and_split_in_one_go_tell_what_they_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labelled(tmp_path / "lab", [f"{name}-1" for name in "abcdefgh"])
    asked = ["index", "--labeled", str(tmp_path / "lab"), "--out", str(tmp_path), "--generate-all"]
    code, out, err = run(capsys, *asked)
    assert (code, err) == (0, "")
    assert "8 labelled images (masks: 8 index), 0 without a mask, in 8 groups" in out
    assert re.search(r"^images +6 +1 +1$", out, re.MULTILINE)
    code, out, _ = run(capsys, *asked, "--json")
    told = json.loads(out)
    assert (told["index"]["labeled"], told["split"]["images"]["train"]) == (8, 6)


def test_check_tells_errors_by_its_exit_code_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labelled(tmp_path, ["a", "b"])
    assert run(capsys, "check", "--labeled", str(tmp_path))[0] == 0
    write_image(tmp_path / "images/b.png", np.zeros(SIZE, np.uint8))
    code, out, err = run(capsys, "check", "--labeled", str(tmp_path))
    assert (code, out) == (1, "2 images and 2 masks: 1 errors, 0 warnings.\n")
    assert "the frame is black" in err
    code, out, err = run(capsys, "check", "--labeled", str(tmp_path), "--json")
    told = json.loads(out)
    assert (code, err, told["check"]["errors"]) == (1, "", 1)
    assert told["findings"][0]["fix"]


def test_bad_input_ends_with_a_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "index", "--raw", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert err == f"{tmp_path / 'none'} is not a folder; give one with --raw (images) or --labeled (masks).\n"
    code, _, err = run(capsys, "stats", "--manifest", str(tmp_path / "none.json"))
    assert (code, err.count("\n")) == (2, 1)
    (tmp_path / "bad.json").write_text('{"samples": [{"key": 1}]}')
    assert run(capsys, "check", "--manifest", str(tmp_path / "bad.json"))[0] == 2
    (tmp_path / "text.json").write_text("no manifest")
    assert run(capsys, "split", "--index", str(tmp_path / "text.json"))[0] == 2
    (tmp_path / "cut.json").write_text('{"classes": [], "samples": [{"key": ')
    code, _, err = run(capsys, "stats", "--manifest", str(tmp_path / "cut.json"))
    assert (code, "cut short" in err or "no image" in err) == (2, True)


@pytest.mark.parametrize("command", ["index", "split", "stats", "check"])
def test_help_shows_examples_that_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m training {command}" in capsys.readouterr().out
