"""The demo as a user runs it: one round, and start, Ctrl-C, start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from examples.demo.label_studio import EXECUTABLE, free_port
from examples.demo.watchdog import ROOT
from training.simulator import write_dataset

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not EXECUTABLE.exists(), reason="Label Studio is not installed"),
]
TASKS = 8
SMALLEST = {**os.environ, "SRPU_PRESET": "test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small alloy"
    write_dataset(folder, TASKS, 3, (128, 160))
    return folder


def command(folder: Path, state: Path, *more: str) -> list[str]:
    ports = ["--port", str(free_port()), "--backend-port", str(free_port())]
    given = ["--data", str(folder), "--state", str(state), "--weights", "none", *ports]
    return [sys.executable, "-m", "examples.demo", *given, *more]


def still_running(state: Path) -> list[str]:
    """Command lines of all processes whose environment names `state`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and str(state).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended while we looked, or is not ours
    return found


@pytest.mark.timeout(900)
def test_one_round_of_the_loop_ends_with_a_better_informed_model(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(folder, tmp_path, "--once", "--minutes", "1"),
        check=False,
        cwd=ROOT,
        env=SMALLEST,
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary.keys() == {
        "tasks",
        "annotated",
        "model_version_before",
        "model_version_after",
        "holdout_miou_before",
        "holdout_miou_after",
        "next_tasks",
        "seconds",
    }
    assert summary["tasks"] == TASKS
    assert summary["model_version_before"] < summary["model_version_after"]
    assert len(summary["next_tasks"]) == TASKS - summary["annotated"] >= 2
    assert still_running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@contextmanager
def running(folder: Path, state: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The demo, once it has printed the URL of its project; ended with Ctrl-C."""
    with subprocess.Popen(
        command(folder, state),
        cwd=ROOT,
        env=SMALLEST,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        said = []
        try:
            for line in demo.stdout:
                said.append(line)
                if "Label Studio  http" in line:
                    break
            else:
                pytest.fail("the demo ended: " + "".join(said))
            yield demo, line.split()[2]
        finally:
            demo.send_signal(signal.SIGINT)
            demo.stdout.read()
            demo.wait(60)


def tasks_of(project_url: str) -> list[int]:
    base, _, rest = project_url.partition("/projects/")
    answer = requests.get(
        f"{base}/api/tasks?project={rest.split('/')[0]}",
        headers={"Authorization": "Token 0123456789abcdef0123456789abcdef01234567"},
        timeout=30,
    )
    return sorted(task["id"] for task in answer.json()["tasks"])


@pytest.mark.timeout(300)
def test_a_plain_folder_is_served_and_found_again_at_the_second_start(tmp_path: Path, folder: Path) -> None:
    images, state = folder / "images", tmp_path / "state"
    with running(images, state) as (demo, url):
        first = tasks_of(url)
    assert demo.returncode == 0
    assert still_running(state) == []
    with running(images, state) as (demo, url):
        second = tasks_of(url)
    assert len(first) == TASKS
    assert second == first


@pytest.mark.timeout(300)
def test_nothing_is_left_running_when_the_demo_is_killed(tmp_path: Path, folder: Path) -> None:
    with running(folder / "images", tmp_path) as (demo, _):
        os.kill(demo.pid, signal.SIGKILL)
        demo.wait(60)
    end = time.monotonic() + 60
    while still_running(tmp_path) and time.monotonic() < end:
        time.sleep(0.2)
    assert still_running(tmp_path) == []


def test_a_folder_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "nowhere", tmp_path),
        check=False,
        cwd=ROOT,
        env=SMALLEST,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not a folder" in done.stderr
