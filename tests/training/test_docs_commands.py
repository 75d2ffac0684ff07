"""Every command on a page of the documentation does what it says, with the smallest network there is."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from training.__main__ import main
from training.simulator import write_dataset

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("pipeline", "measuring", "training", "predicting", "augmentation", "active-learning")
QUICKER = {
    "train": ["--preset", "test", "--set", "max_steps=2", "threads=1"],
    "pipeline": ["--preset", "test", "--set", "max_steps=2", "threads=1"],
}


def commands(page: str) -> list[list[str]]:
    """The commands of `python -m training` in a page's blocks, in order, without the first three words."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[3:] for line in lines if line.startswith("python -m training ")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a labelled folder, a split manifest, a trained run, a model."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_dataset(Path("alloy"), 8, 1, (128, 128))
        assert main(["index", "--labeled", "alloy", "--out", "data", "--generate-all", "--val", "0.3"]) == 0
        shutil.copy("data/dataset.json", "data/manifest.json")
        quick = QUICKER["train"]
        assert main(["train", "--manifest", "data/manifest.json", "--out", "runs/first", *quick]) == 0
        shutil.copytree("runs/first", "alloy-model/model")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(page: str, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    found = commands(page)
    assert found
    for command in found:
        quick = QUICKER.get(command[0], [])
        assert main([*command, *quick]) == 0, shlex.join(command)
