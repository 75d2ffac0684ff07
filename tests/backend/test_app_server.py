"""The web process as it runs in a lab: gunicorn, sockets, signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests
from stand_ins import SETUP

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
COMMANDS: dict[str, Sequence[str]] = {
    "python -m srpu_backend serve": (sys.executable, "-m", "srpu_backend", "serve"),
    "python _wsgi.py": (sys.executable, "_wsgi.py"),
    "gunicorn --preload": (
        *(sys.executable, "-m", "gunicorn", "--preload", "--threads", "4"),
        *("--no-control-socket", "-b", "127.0.0.1:{port}", "_wsgi:app"),
    ),
}


@pytest.fixture(params=list(COMMANDS), ids=list(COMMANDS))
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a running web process; stopped with SIGTERM, which it must obey."""
    port = _free_port()
    command = [part.format(port=port) for part in COMMANDS[request.param]]
    environment = {"PATH": os.environ["PATH"], "MODEL_DIR": str(tmp_path / "state")}
    environment |= {"SRPU_HOST": "127.0.0.1", "PORT": str(port), "HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_up(url, process, tmp_path / "log")
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0, (tmp_path / "log").read_text()
        told = (tmp_path / "log").read_text()
        assert not [sign for sign in ("Traceback", "SIGABRT", "terminate called") if sign in told], told
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_it_serves_the_protocol_and_stops_when_asked(server: str) -> None:
    setup = requests.post(f"{server}/setup", json=SETUP, timeout=30)
    assert setup.json() == {"model_version": "untrained"}
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
    assert requests.post(f"{server}/webhook", json=event, timeout=30).json() == {"status": "queued"}
    assert requests.get(f"{server}/status", timeout=30).json()["projects"][0]["id"] == 1


def test_label_studio_sees_our_sentence_in_its_error(server: str) -> None:
    answer = requests.post(f"{server}/predict", json={"tasks": [], "project": "9.1"}, timeout=30)
    with pytest.raises(requests.HTTPError, match="404 Client Error: Project 9 is not connected"):
        answer.raise_for_status()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.1)
    raise AssertionError(log.read_text())
