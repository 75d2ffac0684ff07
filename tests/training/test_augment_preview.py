"""`augment-preview`: the picture holds what it is said to hold, and docs/augmentation.md's commands work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from micrographs import write_manifest

from training.__main__ import main
from training.augmentation.config import Augmentation, Probabilities
from training.augmentation.preview import ALONE, alone

pytestmark = pytest.mark.fast
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "augmentation.md"
SMALL = ["--preset", "test", "--images", "2", "--columns", "3"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write_manifest(tmp_path)
    return tmp_path / "manifest.json"


def draw(manifest: Path, out: Path, *options: str) -> np.ndarray:
    assert main(["augment-preview", "--manifest", str(manifest), "--out", str(out), *SMALL, *options]) == 0
    picture = cv2.imread(str(out))
    assert picture is not None
    return picture


def test_a_row_for_each_image(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = draw(manifest, tmp_path / "sheet.png", "--json")
    assert json.loads(capsys.readouterr().out)["rows"] == ["task-0", "task-2"]
    assert picture.shape == (2 * (64 + 18 + 4), 3 * (64 + 4), 3)
    first, second, third = (picture[18:82, start : start + 64] for start in (0, 68, 136))
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


def test_the_same_seed_draws_the_same_sheet(manifest: Path, tmp_path: Path) -> None:
    one, same = draw(manifest, tmp_path / "1.png"), draw(manifest, tmp_path / "2.png")
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, draw(manifest, tmp_path / "3.png", "--seed", "1"))


def test_a_row_for_each_change(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(manifest, tmp_path / "each.png", "--each", "--json", "--set", "augmentation.charging=0")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows == [name.replace("_", " ") for name in ALONE if name != "charging"]


def test_each_change_alone_is_alone() -> None:
    for name in Probabilities.model_fields:
        only = alone(Augmentation(), name)
        assert only is not None
        happening = [field for field in Probabilities.model_fields if only.chance(field)]
        assert (happening, only.orientation, only.scale) == ([name], False, (1.0, 1.0))
    assert alone(Augmentation(orientation=False), "orientation") is None


def test_the_changes_of_the_validation(manifest: Path, tmp_path: Path) -> None:
    untouched = draw(manifest, tmp_path / "v.png", "--for-validation")
    np.testing.assert_array_equal(untouched[18:82, 68:132], untouched[18:82, 136:200])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "sheet.jpg"], "end in .png"),
        (["--out", "s.png", "--each", "--set", "augmentation.enabled=false"], "nothing to draw"),
        (["--out", "s.png", "--manifest", "none.json"], "does not exist"),
        (["--out", "s.png", "--for-validation", "--each"], "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["augment-preview", "--manifest", str(manifest), *SMALL, *options]) == 2
    assert message in capsys.readouterr().err


def test_the_documentations_commands_work_and_its_table_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    write_manifest(tmp_path / "data").write(tmp_path / "data" / "dataset.json")
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^python -m training (augment-preview .*)$", text.replace("\\\n", ""), re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        assert main([*shlex.split(line), "--preset", "test"]) == 0
    named = set(re.findall(r"`(?:\w+\.)*(\w+)`", text))
    assert set(Augmentation.model_fields) | set(Probabilities.model_fields) <= named


def test_the_documentations_defaults_are_the_defaults() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d.]+)[^|]*\| ([\d.]+)[^|]*\|", text, re.M)
    told = {name: (float(strength), float(chance)) for name, strength, chance in rows}
    default = Augmentation()
    expected = {
        name: (float(getattr(default, name)), default.chance(name))
        for name in Probabilities.model_fields
        if name != "inversion"
    }
    assert {name: told.get(name) for name in expected} == expected
