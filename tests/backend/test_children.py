"""A training runs in a child process, which can crash, hang or be cancelled without harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from polling import eventually

from srpu_backend.children import NICENESS, TrainingFailed, run_training

pytestmark = pytest.mark.fast

WITH_PARENT = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(3)), daemon=True).start()
"""


class Stop(Exception):
    """What `go_on` raises in these tests."""


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run a few lines of Python as the child; returns what was reported."""

    def run(lines: str, go_on: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
        script = tmp_path / "child.py"
        script.write_text(
            f"import json, os, sys, time\nwork = {str(tmp_path / 'work')!r}\n" + textwrap.dedent(lines)
        )
        reported: list[dict[str, Any]] = []
        run_training(["train"], tmp_path / "work", reported.append, go_on, [sys.executable, str(script)])
        return reported

    return run


def test_a_child_that_ends_well_reports_its_progress(play: Any) -> None:
    reported = play(
        """
        open(work + "/progress.json", "w").write(json.dumps({"fraction": 0.5}))
        time.sleep(0.8)
        """
    )
    assert {"fraction": 0.5} in reported


def test_the_sentence_the_child_left_is_the_error(play: Any) -> None:
    with pytest.raises(TrainingFailed, match=r"^Mask of task-7 has another size\.$") as caught:
        play(
            """
            open(work + '/error.json', 'w').write(json.dumps({'message': 'Mask of task-7 has another size.'}))
            sys.exit(2)
            """
        )
    assert caught.value.bad_input


def test_a_sentence_of_an_earlier_attempt_is_not_taken_for_this_ones(play: Any, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "error.json").write_text('{"message": "old"}')
    with pytest.raises(TrainingFailed, match="ValueError: new"):
        play("raise ValueError('new')")


def test_a_child_that_ran_out_of_memory_says_so(play: Any) -> None:
    with pytest.raises(TrainingFailed, match=r"signal 9.*memory"):
        play(f"os.kill(os.getpid(), {signal.SIGKILL:d})")


def test_a_crash_names_its_signal(play: Any) -> None:
    with pytest.raises(TrainingFailed, match="SIGSEGV"):
        play(f"os.kill(os.getpid(), {signal.SIGSEGV:d})")


def test_cancel_kills_the_child_and_its_own_children(play: Any, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def cancel_once_it_runs() -> None:
        if pids.exists() and len(pids.read_text().split()) == 2:
            raise Stop

    with pytest.raises(Stop):
        play(
            f"""
            pid = os.fork()
            if pid:
                open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{pid}}")
            time.sleep(600)
            """,
            cancel_once_it_runs,
        )
    for pid in map(int, pids.read_text().split()):
        assert _gone(pid)


def test_the_child_is_gentle_to_the_machine(play: Any, tmp_path: Path) -> None:
    play(f"time.sleep(0.5); open({str(tmp_path / 'nice')!r}, 'w').write(str(os.nice(0)))")
    assert int((tmp_path / "nice").read_text()) == min(os.nice(0) + NICENESS, 19)


def test_a_child_whose_trainer_is_killed_ends_and_frees_the_work_folder(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        f"{WITH_PARENT}\nimport time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    trainer = _trainer(tmp_path, child)
    pid = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    trainer.kill()
    trainer.wait()
    child.write_text("print('done')")
    run_training(["train"], tmp_path / "work", lambda _: None, lambda: None, [sys.executable, str(child)])
    assert _gone(pid)


def test_the_child_is_told_to_end_with_its_parent(play: Any, tmp_path: Path) -> None:
    play(f"open({str(tmp_path / 'told')!r}, 'w').write(' '.join(sys.argv[1:]))")
    assert (tmp_path / "told").read_text() == "train --with-parent"


def test_a_child_that_outlives_its_trainer_is_waited_for(tmp_path: Path) -> None:
    """Two children must never write to one work folder: the orphan holds the lock it inherited."""
    child = tmp_path / "child.py"
    child.write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    trainer = _trainer(tmp_path, child)
    orphan = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    trainer.kill()
    trainer.wait()
    child.write_text("print('done')")
    waited: list[int] = []

    def wait_twice_then_end_it() -> None:
        waited.append(1)
        if len(waited) == 2:
            os.kill(orphan, signal.SIGKILL)

    run_training(
        ["train"], tmp_path / "work", lambda _: None, wait_twice_then_end_it, [sys.executable, str(child)]
    )
    assert len(waited) >= 2


def _trainer(tmp_path: Path, child: Path) -> subprocess.Popen[bytes]:
    program = (
        "import sys; from pathlib import Path; from srpu_backend.children import run_training\n"
        f"run_training(['train'], Path({str(tmp_path / 'work')!r}), print, lambda: None,"
        f" [sys.executable, {str(child)!r}])"
    )
    return subprocess.Popen([sys.executable, "-c", program])


def _gone(pid: int) -> bool:
    return bool(eventually(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in _status(pid)))


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "State:\tZ"
