"""Durable jobs: what the backend asks for, and how the trainer runs it (DBOS).

The backend holds a `JobClient` and never runs anything. The trainer `launch`es, which also takes up
again whatever a killed trainer left unfinished. Two queues: `gpu` runs one `evolve` at a time, `cpu` runs
`refresh`, so that new tasks never wait behind a training.

`dbos` costs about half a second to import, which is why it is imported where it is first needed.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, Protocol, TypeVar

from model_zoo.errors import SRPUError
from srpu_backend.settings import Settings

if TYPE_CHECKING:
    from dbos import DBOSClient, DBOSConfig, WorkflowStatus

log = logging.getLogger(__name__)

APPLICATION = "srpu"
APPLICATION_VERSION = "1"
"""Ours to count up, only when pending workflows of an older trainer could not be taken up by a newer."""
GPU, CPU = "gpu", "cpu"
EVOLVE, REFRESH = "evolve", "refresh"
_LONGEST_DEBOUNCE = 12
"""A stream of annotations puts a job off for at most this many times the debounce."""
_KEEP_DAYS = 30
_POLL_SECONDS = 0.5
"""How often the trainer looks for waiting jobs."""
_RETRY_SECONDS = 2.0
_CANCEL_SECONDS = 1.0

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """One job of a project that waits or runs."""

    id: str
    kind: Literal["evolve", "refresh"]
    status: Literal["waiting", "running"]
    since: datetime
    forced: bool


class JobClient:
    """Asks for jobs; for the web process, and for the trainer's own timer.

    Make it after the server has forked. `annotations_changed` and `tasks_changed` return at once and are
    carried out in the background, in order; a request lost with the process is made good by the
    trainer's periodic reconcile. The other methods take a few milliseconds once `warm_up` is through.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")
        self._connecting = threading.Lock()
        self._connected: DBOSClient | None = None

    def warm_up(self) -> Future[None]:
        """Import DBOS and open the database in the background; creates the tables when there are none."""
        return self._background.submit(self._logged, self._client)

    def annotations_changed(self, project_id: int) -> None:
        """Annotations came, changed or went: look what is new once the annotator pauses."""
        self._later(project_id)

    def tasks_changed(self, project_id: int) -> None:
        """Tasks or the project itself changed: likewise."""
        self._later(project_id)

    def champion_changed(self, project_id: int) -> None:
        """Somebody promoted or rolled back by hand: Label Studio must be told."""
        self._debounced(project_id, seconds=0)

    def train_now(self, project_id: int, reason: str = "somebody asked for a training") -> None:
        """Train whether or not there are enough new labels; a request that already waits is enough."""
        self.evolve(project_id, reason, forced=True)

    def evolve(self, project_id: int, reason: str, *, forced: bool = False) -> None:
        """Ask for one turn of the loop, unless one waits already that would do the same."""
        waiting = [j for j in self.queue(project_id) if j.kind == EVOLVE and j.status == "waiting"]
        if any(job.forced or not forced for job in waiting):
            return
        self._client().enqueue(
            {
                "workflow_name": EVOLVE,
                "queue_name": GPU,
                "workflow_id": _new_id(project_id, "forced" if forced else "due"),
                "app_version": APPLICATION_VERSION,
            },
            project_id,
            reason,
            forced,
        )

    def cancel(self, project_id: int) -> int:
        """Cancel what waits and what runs; returns how many. The trainer kills a running child itself."""
        jobs = [job for job in self.queue(project_id) if job.kind == EVOLVE]
        if jobs:
            self._client().cancel_workflows([job.id for job in jobs])
        return len(jobs)

    def queue(self, project_id: int) -> list[Job]:
        """The project's jobs that wait or run, oldest first."""
        statuses = self._client().list_workflows(
            workflow_id_prefix=_id_prefix(project_id),
            status=["DELAYED", "ENQUEUED", "PENDING"],
            load_input=False,
            load_output=False,
        )
        return [_job(status) for status in statuses]

    def forget_finished(self, now: datetime) -> int:
        """Drop finished jobs older than a month from the database; returns how many."""
        cutoff = now - timedelta(days=_KEEP_DAYS)
        client = self._client()
        old = client.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"],
            end_time=cutoff.isoformat(),
            limit=1000,
            load_input=False,
            load_output=False,
        )
        if old:
            client.delete_workflows([status.workflow_id for status in old])
        return len(old)

    def close(self) -> None:
        """Carry out what was asked for and let go of the database."""
        self._background.shutdown(wait=True)
        with self._connecting:
            if self._connected is not None:
                self._connected.destroy()
                self._connected = None

    def _later(self, project_id: int) -> None:
        self._background.submit(
            lambda: self._logged(lambda: self._debounced(project_id, self._settings.debounce))
        )

    def _debounced(self, project_id: int, seconds: float) -> None:
        from dbos import DebouncerClient

        debouncer = DebouncerClient(
            self._client(),
            {
                "workflow_name": REFRESH,
                "queue_name": CPU,
                "workflow_id": _new_id(project_id, "refresh"),
                "app_version": APPLICATION_VERSION,
            },
            debounce_timeout_sec=_LONGEST_DEBOUNCE * self._settings.debounce or None,
        )
        debouncer.debounce(str(project_id), seconds, project_id)

    def _client(self) -> DBOSClient:
        with self._connecting:
            if self._connected is None:
                from dbos import DBOSClient

                create_tables(self._settings)
                self._connected = DBOSClient(
                    system_database_url=self._settings.jobs_database, application_name=APPLICATION
                )
            return self._connected

    def _logged(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:  # the edge of a background thread: nobody else would ever see it
            log.exception("A job could not be asked for; the periodic reconcile will make good for it.")


def create_tables(settings: Settings) -> None:
    """Create or upgrade the job database; whichever process starts first does it."""
    from dbos import DBOS

    _tame_logs()
    url = settings.jobs_database
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("pragma journal_mode=wal")  # the backend never waits for the trainer's polls
    DBOS.migrate(url)


class JobCancelled(Exception):
    """Somebody cancelled the job that is running."""


class DurableSteps:
    """How a workflow calls its steps, so that a finished one is never done twice.

    Arguments and results are kept in the database: plain values and our own frozen dataclasses only.
    """

    def __init__(self, passing: type[Exception]) -> None:
        """`passing`: the error of a step that is worth trying again in a moment."""
        self._passing = passing
        self._looked: dict[str, float] = {}

    def once(self, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do a step; an error ends the workflow."""
        from dbos import DBOS

        return DBOS.run_step({"name": action.__name__}, _cancellable(action), *args, **kwargs)

    def retried(self, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do a step that depends on another server: after a passing error, again in 2, 6 and 18 s."""
        from dbos import DBOS, StepOptions
        from dbos import error as dbos_error

        options = StepOptions(
            name=action.__name__,
            retries_allowed=True,
            max_attempts=4,
            interval_seconds=_RETRY_SECONDS,
            backoff_rate=3.0,
            should_retry=lambda error: isinstance(error, self._passing),
        )
        try:
            return DBOS.run_step(options, _cancellable(action), *args, **kwargs)
        except dbos_error.DBOSMaxStepRetriesExceeded as exceeded:
            raise exceeded.errors[-1] from None

    def workflow_id(self) -> str:
        """Id of the workflow that runs in this thread."""
        from dbos import DBOS

        return str(DBOS.workflow_id)

    def cancelled(self) -> bool:
        """True when the workflow that runs in this thread was cancelled; really looks once a second."""
        from dbos import DBOS

        id, now = self.workflow_id(), time.monotonic()
        if now - self._looked.get(id, -math.inf) < _CANCEL_SECONDS:
            return False
        self._looked = {id: now}
        status = DBOS.get_workflow_status(id)
        return status is not None and status.status == "CANCELLED"


class Workflows(Protocol):
    """What the trainer runs."""

    def evolve(self, project_id: int, reason: str, forced: bool) -> str:
        """One turn of the loop; returns what came of it."""

    def refresh(self, project_id: int) -> str:
        """Look what is new; returns what came of it."""

    def cancelled(self, project_id: int) -> None:
        """The project's running `evolve` was cancelled."""

    def crashed(self, project_id: int, run: str, error: Exception) -> None:
        """The project's `evolve` ended in an error that nobody foresaw."""


def launch(settings: Settings, workflows: Workflows) -> None:
    """Start the workflow engine in this process and take up what an earlier trainer left unfinished."""
    from dbos import DBOS
    from dbos import error as dbos_error

    create_tables(settings)
    DBOS(config=_config(settings))

    @DBOS.workflow(name=EVOLVE)
    def evolve(project_id: int, reason: str, forced: bool) -> str:
        try:
            return workflows.evolve(project_id, reason, forced)
        except dbos_error.DBOSWorkflowCancelledError:
            workflows.cancelled(project_id)
            raise
        except SRPUError:
            raise
        except Exception as error:  # the edge of a thread: nobody else would ever see it
            log.exception("project %d: the run ended in an unforeseen error", project_id)
            workflows.crashed(project_id, str(DBOS.workflow_id), error)
            raise

    @DBOS.workflow(name=REFRESH)
    def refresh(project_id: int) -> str:
        return workflows.refresh(project_id)

    DBOS.launch()
    DBOS.register_queue(GPU, global_concurrency=1, polling_interval_sec=_POLL_SECONDS)
    DBOS.register_queue(CPU, worker_concurrency=4, polling_interval_sec=_POLL_SECONDS)


def shut_down(patience: int) -> None:
    """Stop the workflow engine; what still runs after `patience` seconds resumes at the next launch."""
    from dbos import DBOS

    DBOS.destroy(workflow_completion_timeout_sec=patience)


def _config(settings: Settings) -> DBOSConfig:
    # The executor and version are given: DBOS would derive a version from the source code, and leave what
    # waits behind whenever that changes.
    return {
        "name": APPLICATION,
        "system_database_url": settings.jobs_database,
        "executor_id": "trainer",
        "application_version": APPLICATION_VERSION,
        "log_level": "WARNING",
        "enable_otlp": False,
    }


def _tame_logs() -> None:
    """Send DBOS's log the way of all ours; left alone it prints to the console on its own."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.WARNING)


def _cancellable(action: Callable[P, R]) -> Callable[P, R]:
    """A step that, when cancelled, is not recorded as having failed."""
    from dbos import error as dbos_error

    @wraps(action)
    def step(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return action(*args, **kwargs)
        except JobCancelled as cancelled:
            raise dbos_error.DBOSWorkflowCancelledError(str(cancelled)) from None

    return step


def _id_prefix(project_id: int) -> str:
    return f"project-{project_id}-"


def _new_id(project_id: int, what: str) -> str:
    return f"{_id_prefix(project_id)}{what}-{uuid.uuid4().hex}"


def _job(status: WorkflowStatus) -> Job:
    return Job(
        id=status.workflow_id,
        kind="evolve" if status.name == EVOLVE else "refresh",
        status="running" if status.status == "PENDING" else "waiting",
        since=datetime.fromtimestamp((status.created_at or 0) / 1000, UTC),
        forced="-forced-" in status.workflow_id,
    )
