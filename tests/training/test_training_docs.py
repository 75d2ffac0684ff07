"""What the pages on training say about commands that no test can run here is at least well-formed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from training.__main__ import _parser
from training.commands.training_options import overrides_of
from training.config import TrainingConfig, resolve
from training.config_errors import names_of

pytestmark = pytest.mark.fast

DOCS = Path(__file__).resolve().parents[2] / "docs"


def trainings(page: str) -> list[list[str]]:
    """Arguments after `-m training`, whoever starts it."""
    blocks = re.findall(r"```\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line.split("-m training ", 1)[1]) for line in lines if "-m training train" in line]


def test_the_commands_for_clusters_are_commands() -> None:
    found = trainings("cluster.md")
    assert len(found) == 4
    for arguments in found:
        options = _parser().parse_args(arguments)
        assert resolve(options.preset, overrides_of(options), {}).config.encoder


def test_the_settings_of_the_table_exist() -> None:
    text = (DOCS / "training.md").read_text(encoding="utf-8")
    table = text.split("| setting | default | what |")[1].split("\n\n")[0]
    named: list[str] = []
    for row in table.splitlines():
        if row.startswith("| `"):
            named += re.findall(r"`([a-z_]+)`", row.split("|")[1])
    assert len(named) > 20
    assert set(named) <= set(names_of(TrainingConfig))
