"""The trainer: the process that runs the loop, `python -m srpu_backend worker`."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Protocol

from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from srpu_backend import jobs
from srpu_backend.due import predictions_due, training_due
from srpu_backend.evolution import Evolution
from srpu_backend.images import ImageStore
from srpu_backend.locks import Locked, exclusive
from srpu_backend.projects import Project, Projects
from srpu_backend.ranking import ranking_due
from srpu_backend.settings import Settings
from srpu_backend.studio import StudioError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
_TICK_SECONDS = 0.5
_PATIENCE_SECONDS = 10
_THOROUGH_INTERVAL = timedelta(hours=1)
_CLEANING_INTERVAL = timedelta(days=1)


class WorkerRunning(SRPUError):
    """A second trainer on the same MODEL_DIR."""


def run(settings: Settings) -> int:
    """Run the loop until SIGTERM or SIGINT; returns the exit code.

    Children that train are killed on the way out; what they did resumes at the next start, as it does
    after a `kill -9`.

    Raises:
        WorkerRunning: another trainer works on the same MODEL_DIR.
    """
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    stopping = threading.Event()
    with _alone(settings.model_dir), _stopped_by_signals(stopping):
        client = jobs.JobClient(settings)
        projects = Projects.of(settings)
        evolution = Evolution(
            settings,
            projects,
            ImageStore(settings, settings.model_dir / "images"),
            client,
            jobs.DurableSteps(passing=StudioError),
            stopping,
        )
        _say_idle_again(projects, client)
        jobs.launch(settings, evolution)
        log.info("The trainer works on %s", settings.model_dir)
        with _heartbeat(settings.model_dir):
            Timer(settings, projects, evolution.pull, client).run(stopping)
        log.info("The trainer stops")
        jobs.shut_down(_PATIENCE_SECONDS)
        client.close()
    _leave()
    return 0


class Requests(Protocol):
    """The part of `JobClient` that the timer needs."""

    def evolve(self, project_id: int, reason: str) -> None: ...
    def tasks_changed(self, project_id: int) -> None: ...
    def forget_finished(self, now: datetime) -> int: ...


class Timer:
    """Looks after every known project once an interval, webhook or not."""

    def __init__(
        self,
        settings: Settings,
        projects: Projects,
        pull: Callable[[int, bool], None],
        client: Requests,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`pull(project id, thorough)` brings a project's mirror up to date."""
        self._interval = timedelta(seconds=settings.reconcile_interval)
        self._settings = settings
        self._projects = projects
        self._pull = pull
        self._client = client
        self._clock = clock
        self._next: dict[int, datetime] = {}
        self._next_thorough: dict[int, datetime] = {}
        self._next_cleaning = clock()
        self._said: dict[int, str] = {}

    def run(self, stopping: threading.Event) -> None:
        """Look until `stopping` is set."""
        while not stopping.wait(_TICK_SECONDS):
            self.tick()

    def tick(self) -> None:
        """Look after the projects whose time has come."""
        now = self._clock()
        for id in self._projects.ids():
            if self._next.get(id, now) <= now:
                self._look_after(id)
        if self._next_cleaning <= now:
            self._next_cleaning = now + _CLEANING_INTERVAL
            self._client.forget_finished(now)

    def _look_after(self, id: int) -> None:
        self._next[id] = self._clock() + self._interval
        try:
            project = self._projects.get(id)
            project.update_state(next_reconcile=self._next[id])
            if project.connection is not None:
                thorough = self._thorough(id)
                self._pull(id, thorough)
                self._ask(self._projects.get(id), thorough)
            self._made_up(project)
        except SRPUError as error:
            self._complain(id, str(error))
        except Exception as error:  # the trouble of one project must not stop the others
            log.exception("project %d: looking for changes failed", id)
            self._complain(id, f"Looking for changes ended in an unforeseen {type(error).__name__}.")

    def _thorough(self, id: int) -> bool:
        """True at the first look and then once an hour: whatever a quick look missed is found then."""
        now = self._clock()
        if self._next_thorough.get(id, now) > now:
            return False
        self._next_thorough[id] = now + _THOROUGH_INTERVAL
        return True

    def _ask(self, project: Project, thorough: bool) -> None:
        reason = training_due(project, self._settings)
        if reason is not None:
            self._client.evolve(project.id, reason)
        # A thorough look also finds predictions that somebody deleted in Label Studio.
        if thorough or predictions_due(project, self._clock()) or ranking_due(project, self._settings):
            self._client.tasks_changed(project.id)

    def _complain(self, id: int, said: str) -> None:
        if self._said.get(id) != said:
            log.warning("project %d: %s", id, said)
        self._said[id] = said
        with suppress(SRPUError, OSError):
            self._projects.get(id).update_state(last_error=said)

    def _made_up(self, project: Project) -> None:
        said = self._said.pop(project.id, None)
        if said is not None and project.state().last_error == said:
            project.update_state(last_error="")


def _leave() -> None:
    """Do not wait for a step that hangs in a request: it is done again at the next start anyway."""
    if any(thread.name.startswith("dbos-executor") for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


def _say_idle_again(projects: Projects, client: jobs.JobClient) -> None:
    """A trainer that was killed may have left a stage behind in the state of a job that is no more."""
    for id in projects.ids():
        project = projects.get(id)
        if project.state().run and not client.queue(id):
            project.update_state(stage="idle", fraction=None, run="")


@contextmanager
def _alone(model_dir: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(model_dir / "worker.lock"))
        except Locked:
            raise WorkerRunning(
                f"Another trainer works on {model_dir}: stop that one first, "
                "or give this one its own MODEL_DIR."
            ) from None
        yield


@contextmanager
def _stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _heartbeat(model_dir: Path) -> Iterator[None]:
    """Say every few seconds that the trainer lives, in `worker.json`."""
    path = model_dir / "worker.json"
    ended = threading.Event()
    started = datetime.now(UTC).isoformat()

    def beat() -> None:
        while True:
            content = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started_at": started,
                "heartbeat_at": datetime.now(UTC).isoformat(),
            }
            with suppress(OSError):  # a full disk stops the heartbeat, not the trainer
                write_atomically(path, json.dumps(content).encode())
            if ended.wait(HEARTBEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)
