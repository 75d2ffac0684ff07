"""Jobs survive their processes, are asked for in milliseconds, and never run twice at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from polling import eventually

from srpu_backend import jobs
from srpu_backend.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_dir=tmp_path / "models", debounce=0.5)


@pytest.fixture
def client(settings: Settings) -> Iterator[jobs.JobClient]:
    client = jobs.JobClient(settings)
    yield client
    client.close()


@pytest.fixture
def trainer(settings: Settings) -> Iterator[Any]:
    """Starts a trainer in this process, with the given workflows."""
    from dbos import DBOS

    def start(
        evolve: Callable[[int, str, bool], str] = lambda *_: "",
        refresh: Callable[[int], str] = lambda _: "",
        cancelled: Callable[[int], None] = lambda _: None,
        crashed: Callable[[int, str, Exception], None] = lambda *_: None,
    ) -> None:
        jobs.launch(
            settings,
            SimpleNamespace(evolve=evolve, refresh=refresh, cancelled=cancelled, crashed=crashed),
        )

    yield start
    DBOS.destroy(destroy_registry=True)


def test_the_backend_may_start_first_and_ask_before_any_trainer_ran(client: jobs.JobClient) -> None:
    client.evolve(7, "two labels")
    assert [(j.kind, j.status, j.forced) for j in client.queue(7)] == [("evolve", "waiting", False)]
    assert client.queue(8) == client.queue(70) == []


def test_a_burst_of_annotations_becomes_one_look(client: jobs.JobClient, trainer: Any) -> None:
    looked: list[int] = []
    for _ in range(20):
        client.annotations_changed(7)
    client.tasks_changed(8)
    trainer(refresh=lambda id: looked.append(id) or "")
    eventually(lambda: sorted(looked) == [7, 8])
    eventually(lambda: not client.queue(7))
    client.annotations_changed(7)
    eventually(lambda: sorted(looked) == [7, 7, 8])


def test_annotations_during_a_look_get_one_more(client: jobs.JobClient, trainer: Any) -> None:
    looked: list[int] = []
    go = threading.Event()

    def refresh(id: int) -> str:
        looked.append(id)
        go.wait(20)
        return ""

    trainer(refresh=refresh)
    client.annotations_changed(7)
    eventually(lambda: looked)
    client.annotations_changed(7)
    client.annotations_changed(7)
    go.set()
    eventually(lambda: len(looked) == 2)
    eventually(lambda: not client.queue(7))
    assert len(looked) == 2


def test_a_training_request_that_waits_already_is_enough(client: jobs.JobClient) -> None:
    client.evolve(7, "labels")
    client.evolve(7, "labels")
    assert len(client.queue(7)) == 1
    client.train_now(7)
    client.train_now(7)
    client.evolve(7, "labels")
    assert [j.forced for j in client.queue(7)] == [False, True]


def test_trainings_run_one_at_a_time_and_looks_do_not_wait_for_them(
    client: jobs.JobClient, trainer: Any
) -> None:
    running: list[int] = []
    most: list[int] = []
    looked = threading.Event()
    go = threading.Event()

    def evolve(id: int, reason: str, forced: bool) -> str:
        running.append(id)
        most.append(len(running))
        go.wait(20)
        running.remove(id)
        return ""

    trainer(evolve=evolve, refresh=lambda _: looked.set() or "")
    for id in (1, 2, 3):
        client.evolve(id, "labels")
    eventually(lambda: running)
    client.champion_changed(1)
    assert looked.wait(20)
    assert len(running) == 1
    go.set()
    eventually(lambda: len(most) == 3 and not running)
    assert most == [1, 1, 1]


def test_cancel_stops_what_waits_and_tells_what_runs(client: jobs.JobClient, trainer: Any) -> None:
    steps = jobs.DurableSteps(passing=OSError)
    began = threading.Event()
    cancelled: list[int] = []

    def train() -> None:
        began.set()
        eventually(steps.cancelled)
        raise jobs.JobCancelled("somebody cancelled")

    def evolve(id: int, reason: str, forced: bool) -> str:
        steps.once(train)
        return ""

    trainer(evolve=evolve, cancelled=cancelled.append)
    client.evolve(7, "labels")
    assert began.wait(20)
    client.train_now(7)
    assert client.cancel(7) == 2
    eventually(lambda: cancelled == [7])
    assert client.queue(7) == []


def test_an_unforeseen_error_is_told_and_the_next_job_runs(client: jobs.JobClient, trainer: Any) -> None:
    told: list[tuple[int, str]] = []
    trainer(
        evolve=lambda id, *_: {}["a bug"],
        crashed=lambda id, run, error: told.append((id, repr(error))),
    )
    client.evolve(7, "labels")
    client.evolve(8, "labels")
    eventually(lambda: sorted(told) == [(7, "KeyError('a bug')"), (8, "KeyError('a bug')")])


def test_a_passing_error_is_tried_again_and_its_own_sentence_comes_out(
    client: jobs.JobClient, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = jobs.DurableSteps(passing=ConnectionError)
    tried: list[str] = []
    caught: list[Exception] = []

    def away() -> None:
        tried.append("away")
        raise ConnectionError("Label Studio is away.")

    def refresh(id: int) -> str:
        try:
            steps.retried(away)
        except ConnectionError as error:
            caught.append(error)
        return ""

    monkeypatch.setattr(jobs, "_RETRY_SECONDS", 0.01)
    trainer(refresh=refresh)
    client.champion_changed(7)
    eventually(lambda: caught)
    assert len(tried) == 4
    assert str(caught[0]) == "Label Studio is away."


def test_old_jobs_are_forgotten(client: jobs.JobClient, trainer: Any) -> None:
    done = threading.Event()
    trainer(refresh=lambda _: done.set() or "")
    client.champion_changed(7)
    assert done.wait(20)
    eventually(lambda: not client.queue(7))
    assert client.forget_finished(datetime.now(UTC)) == 0
    assert client.forget_finished(datetime.now(UTC) + timedelta(days=31)) == 1


TRAINER = """
import os, sys, threading
from pathlib import Path
from types import SimpleNamespace
from srpu_backend import jobs
from srpu_backend.settings import Settings
folder = Path(sys.argv[1])
steps = jobs.DurableSteps(passing=OSError)

def note(what):
    with (folder / "notes").open("a") as file:
        file.write(what + "\\n")

def first(): note("first")
def second():
    note("second")
    if not (folder / "go").exists():
        threading.Event().wait()

def evolve(id, reason, forced):
    steps.once(first)
    steps.once(second)
    note("done")
    return ""

workflows = SimpleNamespace(evolve=evolve, refresh=print, cancelled=print, crashed=print)
jobs.launch(Settings(model_dir=folder / "models"), workflows)
threading.Event().wait()
"""


def test_a_killed_trainer_resumes_in_the_step_it_was_in(client: jobs.JobClient, tmp_path: Path) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(textwrap.dedent(TRAINER))
    notes = tmp_path / "notes"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": "."}
        )

    client.evolve(7, "labels")
    killed = start()
    try:
        eventually(lambda: notes.exists() and notes.read_text().split() == ["first", "second"])
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    (tmp_path / "go").touch()
    resumed = start()
    try:
        eventually(lambda: notes.read_text().split() == ["first", "second", "second", "done"])
        eventually(lambda: not client.queue(7))
    finally:
        resumed.kill()
        resumed.wait()
