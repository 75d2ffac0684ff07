"""What the image does when it runs, done in a clean folder: its files, its commands, its health check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from docker_files import ROOT, command, compose, copied, environment
from polling import eventually

from examples.demo.label_studio import free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder with exactly what the Dockerfile copies."""
    folder = tmp_path / "srpu"
    for source, destination in copied():
        target = folder / destination
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    return folder


def variables(tmp_path: Path, role: str) -> dict[str, str]:
    """The image's environment, with this machine's folders and a port of our own."""
    return {
        **environment("cpu"),
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(tmp_path),
        "MODEL_DIR": str(tmp_path / "data"),
        "HF_HOME": str(tmp_path / "weights"),
        "SRPU_HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "SRPU_ROLE": role,
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def running(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            log.close()


def healthy(folder: Path, environment: Mapping[str, str]) -> bool:
    check = command("cpu", "HEALTHCHECK")
    done = subprocess.run(check, cwd=folder, env=environment, capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def test_the_backends_command_serves_and_its_health_check_tells(image: Path, tmp_path: Path) -> None:
    environment = variables(tmp_path, "backend")
    assert not healthy(image, environment)
    with running(command("cpu", "CMD"), image, environment):
        eventually(lambda: healthy(image, environment), seconds=60)
    assert not healthy(image, environment)


def test_the_trainers_command_works_and_its_health_check_tells(image: Path, tmp_path: Path) -> None:
    environment = variables(tmp_path, "trainer")
    assert not healthy(image, environment)
    with running(compose()["services"]["trainer"]["command"], image, environment):
        eventually(lambda: healthy(image, environment), seconds=60)
    beat = tmp_path / "data" / "worker.json"
    assert not healthy(image, environment)
    beat.write_text("{}")
    assert healthy(image, environment)
    os.utime(beat, (0, 0))  # left behind by a trainer that was killed long ago
    assert not healthy(image, environment)
