"""The README's commands on folders do what they say."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _commands() -> list[list[str]]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Without Label Studio")[1]
    block = section.split("```")[1]
    return [shlex.split(line) for line in block.strip().splitlines()]


@pytest.mark.slow
def test_the_readmes_commands_lead_from_nothing_to_a_measured_model(tmp_path: Path) -> None:
    commands = _commands()
    assert [command[3] for command in commands] == ["simulate", "index", "train", "evaluate"]
    for command in commands:
        quicker = ["--set", "max_steps=2", "encoder=resnet18"] if "train" in command else []
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
    measured = json.loads((tmp_path / "runs/first/test.json").read_text())
    assert measured["images"]
