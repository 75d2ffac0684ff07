"""conda's environment is pip's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parent.parent


def test_conda_installs_what_pip_installs_on_the_same_python() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    assert (ROOT / "requirements.txt").is_file()
    assert "pip" in packages
    (python,) = (package.partition("=")[2] for package in packages if package.startswith("python="))
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python in wanted
    assert f"Python {python}" in (ROOT / "requirements.txt").read_text()
