"""The trainer's timer looks after every project, whatever befalls one of them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from srpu_backend import worker
from srpu_backend.locks import exclusive
from srpu_backend.mirror import MirroredTask
from srpu_backend.projects import Projects
from srpu_backend.settings import Settings
from srpu_backend.studio import StudioError
from srpu_backend.worker import Timer, WorkerRunning

pytestmark = pytest.mark.fast


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Asked:
    """What the timer asked for."""

    def __init__(self) -> None:
        self.evolved: list[int] = []
        self.looked: list[int] = []
        self.cleaned = 0

    def evolve(self, project_id: int, reason: str) -> None:
        self.evolved.append(project_id)

    def tasks_changed(self, project_id: int) -> None:
        self.looked.append(project_id)

    def forget_finished(self, now: datetime) -> int:
        self.cleaned += 1
        return 0


class Pulls:
    """Pulls that go wrong for the projects in `trouble`."""

    def __init__(self) -> None:
        self.pulled: list[tuple[int, bool]] = []
        self.trouble: dict[int, Exception] = {}

    def __call__(self, id: int, thorough: bool) -> None:
        self.pulled.append((id, thorough))
        if id in self.trouble:
            raise self.trouble[id]


@pytest.fixture
def projects(tmp_path: Path) -> Projects:
    known = Projects(tmp_path)
    for id in (1, 2):
        known.remember(id, url="http://127.0.0.1:1", token="t", label_config="<View/>")
    return known


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def pulls() -> Pulls:
    return Pulls()


@pytest.fixture
def timer(tmp_path: Path, projects: Projects, pulls: Pulls, asked: Asked, clock: Clock) -> Timer:
    settings = Settings(model_dir=tmp_path, reconcile_interval=60)
    return Timer(settings, projects, pulls, asked, clock)


def test_every_project_is_looked_at_once_an_interval(timer: Timer, pulls: Pulls, clock: Clock) -> None:
    timer.tick()
    timer.tick()
    assert pulls.pulled == [(1, True), (2, True)]
    clock.now += timedelta(seconds=61)
    timer.tick()
    assert pulls.pulled[2:] == [(1, False), (2, False)]
    clock.now += timedelta(hours=1)
    timer.tick()
    assert pulls.pulled[4:] == [(1, True), (2, True)]


def test_a_project_without_a_token_waits_for_one(timer: Timer, pulls: Pulls, projects: Projects) -> None:
    projects.remember(3, label_config="<View/>")
    timer.tick()
    assert [id for id, _ in pulls.pulled] == [1, 2]
    assert projects.get(3).state().last_error == ""


def test_the_trouble_of_one_project_is_told_and_does_not_stop_the_others(
    timer: Timer, pulls: Pulls, projects: Projects, clock: Clock
) -> None:
    pulls.trouble = {1: StudioError("Label Studio cannot be reached.")}
    timer.tick()
    assert [id for id, _ in pulls.pulled] == [1, 2]
    assert projects.get(1).state().last_error == "Label Studio cannot be reached."
    pulls.trouble = {1: KeyError("a bug")}
    clock.now += timedelta(seconds=61)
    timer.tick()
    assert "unforeseen KeyError" in projects.get(1).state().last_error
    pulls.trouble = {}
    clock.now += timedelta(seconds=61)
    timer.tick()
    assert projects.get(1).state().last_error == ""


def test_a_failed_training_stays_told_when_the_next_look_goes_well(timer: Timer, projects: Projects) -> None:
    projects.get(1).update_state(last_error="Out of memory.")
    timer.tick()
    assert projects.get(1).state().last_error == "Out of memory."


def test_a_project_that_cannot_be_read_does_not_stop_the_others(
    timer: Timer, pulls: Pulls, projects: Projects
) -> None:
    (projects.get(1).root / "project.json").write_text("{")
    timer.tick()
    assert [id for id, _ in pulls.pulled] == [2]


def test_a_training_is_asked_for_when_one_is_due(timer: Timer, projects: Projects, asked: Asked) -> None:
    projects.get(2).mirror.upsert(MirroredTask(i, "m", {}, {"result": []}, f"l{i}") for i in (1, 2))
    timer.tick()
    assert asked.evolved == [2]


def test_the_state_says_when_the_next_look_is(timer: Timer, projects: Projects, clock: Clock) -> None:
    timer.tick()
    assert projects.get(1).state().next_reconcile == clock.now + timedelta(seconds=60)


def test_old_jobs_are_dropped_once_a_day(timer: Timer, asked: Asked, clock: Clock) -> None:
    timer.tick()
    timer.tick()
    assert asked.cleaned == 1
    clock.now += timedelta(days=1)
    timer.tick()
    assert asked.cleaned == 2


def test_a_second_trainer_is_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path / "worker.lock"), pytest.raises(WorkerRunning, match="Another trainer works on"):
        worker.run(Settings(model_dir=tmp_path))


def test_the_heartbeat_tells_who_is_alive_and_ends_with_the_trainer(tmp_path: Path) -> None:
    path = tmp_path / "worker.json"
    with worker._heartbeat(tmp_path):
        deadline = datetime.now(UTC) + timedelta(seconds=60)
        while not path.exists() and datetime.now(UTC) < deadline:
            pass
        told = json.loads(path.read_bytes())
        assert told["pid"] == os.getpid()
    assert not path.exists()
