"""Run one stage of a training in a child process: a crash costs one stage, and cancel is a kill.

The child holds our end of a pipe as its standard input and ends when that closes, so a killed trainer
leaves no orphan. It also inherits the lock of its work folder: a new trainer waits until the old child is
really gone before another one writes there.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from model_zoo.errors import SRPUError
from srpu_backend.locks import exclusive

log = logging.getLogger(__name__)

NICENESS = 10
"""The annotators' predictions come before a training."""
_POLL_SECONDS = 0.3
_ORPHAN_SECONDS = 60.0


class TrainingFailed(SRPUError):
    """A child process did not do its work; the message says why."""

    def __init__(self, message: str, bad_input: bool = False) -> None:
        super().__init__(message, bad_input)
        self.bad_input = bad_input
        """True when the child said that what it was given cannot be used (exit code 2)."""

    def __str__(self) -> str:
        return str(self.args[0])


def run_training(
    arguments: Sequence[str],
    work: Path,
    report: Callable[[dict[str, Any]], None],
    go_on: Callable[[], None],
    program: Sequence[str] = (sys.executable, "-m", "training"),
) -> None:
    """Run `python -m training ARGUMENTS --with-parent` to its end.

    Args:
        arguments: sub-command and its options.
        work: the run's folder; `progress.json`, `error.json` and `<sub-command>.log` are in it.
        report: called with the content of `progress.json` whenever that changed.
        go_on: called a few times a second; whatever it raises kills the child and is raised here.
        program: what to run, for tests.

    Raises:
        TrainingFailed: the child failed, with its own sentence where it left one.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / "error.json").unlink(missing_ok=True)
    started = time.monotonic()

    def wait_for_orphan() -> None:
        go_on()
        if time.monotonic() - started > _ORPHAN_SECONDS:
            raise TrainingFailed(
                f"Another training still writes to {work}; end that process, then train again."
            )

    log_path = work / f"{arguments[0]}.log"
    with exclusive(work / ".lock", wait=wait_for_orphan) as lock, log_path.open("ab") as output:
        child = _start([*program, *arguments, "--with-parent"], output.fileno(), lock)
        try:
            _follow(child, work / "progress.json", report, go_on)
        finally:
            _kill(child)
    if child.returncode != 0:
        raise _failure(arguments[0], child.returncode, work, log_path)


def _start(command: Sequence[str], output: int, lock: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        process_group=0,  # so that its own workers are killed with it
        pass_fds=(lock,),
    )
    with suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, child.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19))
    return child


def _follow(
    child: subprocess.Popen[bytes],
    progress: Path,
    report: Callable[[dict[str, Any]], None],
    go_on: Callable[[], None],
) -> None:
    seen: dict[str, Any] | None = None
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_POLL_SECONDS)
            return
        go_on()
        current = _read_object(progress)
        if current is not None and current != seen:
            seen = current
            report(current)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child's whole group; when the child itself has ended, what it may have left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _failure(stage: str, code: int, work: Path, log_path: Path) -> TrainingFailed:
    said = (_read_object(work / "error.json") or {}).get("message") or _last_line(log_path)
    if code == -signal.SIGKILL:
        said = (
            f"The {stage} process was killed (signal 9), most likely because memory ran out; "
            "give the trainer more memory, or train with smaller tiles or batches (SRPU_TRAINING)."
        )
    elif code < 0:
        said = f"The {stage} process was ended by {_signal_name(-code)}. Last words: {said or 'none'}"
    elif not said:
        said = f"The {stage} process ended with exit code {code} and said nothing; its log is {log_path}."
    elif code != 2:
        said = f"The {stage} process failed (exit code {code}): {said}"
    return TrainingFailed(said, bad_input=code == 2)


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None while there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
