"""What the demo runs: Label Studio, the backend and the trainer, each in a process group of its own."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
from pydantic import SecretStr

from examples.demo.label_studio import LOOPBACK, LabelStudioProcess, free_port
from examples.demo.watchdog import ROOT, Watchdog
from model_zoo.errors import SRPUError
from srpu_backend.settings import Settings

log = logging.getLogger(__name__)
START_DEADLINE = 90.0
"""Seconds for the backend to answer on a busy machine."""
STOP_PATIENCE = 15.0
"""Seconds between asking a process to end and ending it."""
RESTART_PAUSE = 10.0
"""Seconds between two starts of one process that keeps ending."""


class ProcessFailed(SRPUError):
    """A process of the demo did not start."""


@dataclass
class Child:
    """One of our own processes, started again when it ends by itself."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    watchdog: Watchdog
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start it; what it says goes to its log."""
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the demo's to handle
            )
        self._started = time.monotonic()
        self.watchdog.watch(self._process.pid)

    @property
    def pid(self) -> int | None:
        """Process id while it runs; also the id of its group."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def tend(self) -> None:
        """Start it again when it has ended, but not too often."""
        if self._process is None or self.pid or time.monotonic() - self._started < RESTART_PAUSE:
            return
        log.warning(
            "The %s ended (exit code %s, see %s); starting it again.",
            self.name,
            self._process.returncode,
            self.log_path,
        )
        self.watchdog.forget(self._process.pid)
        self.start()

    def stop(self) -> None:
        """End it and whatever it started; harmless when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_PATIENCE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.watchdog.forget(process.pid)

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'it said nothing'} (see {self.log_path})"


@dataclass(frozen=True)
class Ports:
    """Of the loopback interface."""

    studio: int
    backend: int

    @classmethod
    def choose(cls, studio: int | None, backend: int | None, kept: Path) -> Ports:
        """The ports asked for, else the ones in the file `kept`, else 8080 and 9090, else free ones."""
        before: dict[str, int] = {}
        with suppress(FileNotFoundError, ValueError):
            before = json.loads(kept.read_text())
        ports = cls(
            studio or _free_or_any(before.get("studio", 8080)),
            backend or _free_or_any(before.get("backend", 9090)),
        )
        kept.write_text(json.dumps({"studio": ports.studio, "backend": ports.backend}))
        return ports


class Stack:
    """All the processes of one demo; a context manager.

    Args:
        state: folder of this demo: Label Studio's data, MODEL_DIR, logs.
        ports: where Label Studio and the backend listen.
        images: folder whose images the backend may read directly.
        variables: further ones of backend and trainer.
    """

    def __init__(self, state: Path, ports: Ports, images: Path, variables: Mapping[str, str]) -> None:
        self.state = state
        self.watchdog = Watchdog()
        self.studio = LabelStudioProcess(state / "label-studio", port=ports.studio)
        self.backend_url = f"http://{LOOPBACK}:{ports.backend}"
        self.settings = Settings(
            model_dir=state / "srpu",
            host=LOOPBACK,
            port=ports.backend,
            label_studio_url=self.studio.url,
            label_studio_api_key=SecretStr(self.studio.account.token),
            allowed_image_folders=str(images),
        )
        environment = {
            **os.environ,
            "MODEL_DIR": str(self.settings.model_dir),
            "SRPU_HOST": LOOPBACK,
            "PORT": str(ports.backend),
            "LABEL_STUDIO_URL": self.studio.url,
            "LABEL_STUDIO_API_KEY": self.studio.account.token,
            "SRPU_ALLOWED_IMAGE_FOLDERS": str(images),
            "PYTHONUNBUFFERED": "1",
            **variables,
        }
        self.backend = self._child("backend", [sys.executable, "_wsgi.py"], environment)
        self.trainer = self._child("trainer", [sys.executable, "-m", "srpu_backend", "worker"], environment)

    def _child(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        return Child(name, command, environment, self.state / f"{name}.log", self.watchdog)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until Label Studio and the backend answer."""
        self.backend.start()
        self.trainer.start()
        self.studio.start()
        if self.studio.pid:
            self.watchdog.watch(self.studio.pid)
        self._wait_for_backend()

    def tend(self) -> None:
        """Start again what has ended by itself."""
        self.backend.tend()
        self.trainer.tend()
        if self.studio.pid is None:
            raise ProcessFailed(
                f"Label Studio ended by itself; its last words are in {self.studio.log_path}."
            )

    def stop(self) -> None:
        """End everything; what the steps below fail to end, the watchdog does."""
        try:
            self.trainer.stop()
            self.backend.stop()
            group = self.studio.pid
            self.studio.stop()
            if group:
                self.watchdog.forget(group)
        finally:
            self.watchdog.close()

    def _wait_for_backend(self) -> None:
        def answers() -> bool:
            if self.backend.pid is None:
                raise ProcessFailed(f"The backend ended while starting: {self.backend.last_words()}")
            with suppress(requests.RequestException):
                return requests.get(f"{self.backend_url}/health", timeout=5).ok
            return False

        if not wait_until(answers, START_DEADLINE):
            raise ProcessFailed(f"The backend did not answer in time: {self.backend.last_words()}")


def wait_until(reached: Callable[[], bool], seconds: float, pause: float = 0.5) -> bool:
    """Ask `reached` again and again; False when it was not so within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(pause)
    return False


def _free_or_any(wanted: int) -> int:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, wanted))
        except OSError:
            return free_port()
    return wanted
