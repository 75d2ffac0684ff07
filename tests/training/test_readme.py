"""The README's commands on folders do what they say."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


_QUICKER = {
    "simulate": ["--count", "6", "--size", "256x256"],
    "pipeline": ["--preset", "test", "--set", "max_steps=2", "threads=1"],
}


def _commands() -> list[list[str]]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Without Label Studio")[1]
    block = section.split("```")[1]
    return [shlex.split(line) for line in block.replace("\\\n", " ").strip().splitlines()]


@pytest.mark.slow
def test_the_readmes_commands_lead_from_nothing_to_a_measured_model(tmp_path: Path) -> None:
    commands = _commands()
    assert [command[3] for command in commands] == ["simulate", "pipeline", "predict", "measure", "rank"]
    for command in commands:
        quicker = _QUICKER.get(command[3], [])
        done = subprocess.run(
            [sys.executable, *command[1:], *quicker],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "runs/alloy/summary.json").read_text())
    assert (summary["labeled"], summary["unlabeled"]) == (6, 0)
    assert (tmp_path / "runs/alloy/report/index.html").is_file()
    measured = json.loads((tmp_path / "runs/alloy-sizes/summary.json").read_text())
    assert measured["pictures"] == 6
    assert json.loads((tmp_path / "runs/next.json").read_text())
