"""What Label Studio's requests mean, without HTTP. `app` and `model` both sit on this."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from model_zoo.errors import SRPUError
from srpu_backend.annotator import UNTRAINED, Champions, Images
from srpu_backend.answers import Answered, Answers
from srpu_backend.events import Event, read_event
from srpu_backend.interactive import SmartTool
from srpu_backend.projects import Project, Projects, parse_project_id
from srpu_backend.settings import Settings

log = logging.getLogger(__name__)


class BadRequest(SRPUError):
    """A request whose body is not what the protocol says."""


class QueueUnavailable(SRPUError):
    """A job that somebody asked for could not be queued."""


class JobRequests(Protocol):
    """What we need of `srpu_backend.jobs.JobClient`."""

    def annotations_changed(self, project_id: int) -> None: ...

    def tasks_changed(self, project_id: int) -> None: ...

    def train_now(self, project_id: int, reason: str = ...) -> None: ...


class Service:
    """The protocol's meaning. Safe among threads; every call reads what other processes wrote."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobRequests,
        images: Images,
        *,
        champions: Champions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.jobs = jobs
        self.projects = Projects.of(settings)
        self._images = images
        self._smart_tool = SmartTool(images)
        self._champions = champions or Champions(settings.loaded_models)
        self._answers = Answers(images, settings.predict_deadline, clock)

    def setup(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Remember a project as Label Studio describes it; loads no model.

        Returns `{"model_version": …}`, the champion or `untrained`. Raises `BadProjectReference`,
        `BadRequest` or, once the project is remembered, `BadLabelConfig`.
        """
        id = parse_project_id(payload.get("project"))
        schema = _text(payload, "schema")
        extra = payload.get("extra_params")
        project = self.projects.remember(
            id,
            url=self.settings.label_studio_url or _text(payload, "hostname") or None,
            token=_text(payload, "access_token") or None,
            label_config=schema or None,
            parameters=extra if isinstance(extra, dict) else None,
        )
        _checked_config(project)
        return {"model_version": _version(project)}

    def predict(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Answer every task of a request, each failing alone.

        A task that cannot be answered, or not before the deadline, gets an element with `error` and
        without `result`: Label Studio stores the others and leaves that one out. Before the first
        model the answer is empty but valid. Smart tools (a request with a context) are answered before the
        first model too, and never with an error that would reach the editor as an alarm.

        Raises `BadRequest`, `BadProjectReference`, `UnknownProject` or `BrokenProject`.
        """
        tasks = _tasks(payload)
        project = self._current(parse_project_id(payload.get("project")), _text(payload, "label_config"))
        version = _version(project)
        champion = self._champions.of(project)
        if (context := _context(payload)) is not None:
            answers = [self._smart_tool.answer(project, champion, task, context) for task in tasks]
            return {"results": answers, "model_version": version}
        if version == UNTRAINED:
            empty = {"result": [], "score": 0.0, "model_version": version}
            return {"results": [dict(empty) for _ in tasks], "model_version": version}
        answered = self._answers.answer(project, champion, version, tasks)
        self._tell_of_failures(project, tasks, answered)
        return {"results": answered.elements, "model_version": answered.version}

    def webhook(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Take note of an event and ask the trainer to look; `{"status": "queued"}` or `"ignored"`.

        Only a training that somebody asked for depends on the queue: `QueueUnavailable` is raised for
        it. Whatever else the queue could not take, the trainer's periodic reconcile finds.

        Raises `BadRequest`, `BadProjectReference`, `UnknownProject` or `BrokenProject` too.
        """
        event = read_event(payload)
        if event is None:
            return {"status": "ignored", "reason": f"Nothing depends on {payload.get('action')!r:.80}."}
        project = self.projects.get(event.project)
        if event.kind == "project":
            return self._project_updated(project, event)
        if event.kind == "train":
            self._train(project.id)
            return {"status": "queued"}
        self._champions.of(project).prepare()  # who annotates looks at the next task soon
        ask = self.jobs.annotations_changed if event.kind == "annotations" else self.jobs.tasks_changed
        self._ask(project, ask)
        return {"status": "queued"}

    def versions(self, project: object = None) -> dict[str, Any]:
        """Model versions, newest first: of one project, or of all (Label Studio does not say which)."""
        ids = self.projects.ids() if project is None else [parse_project_id(project)]
        found = {v for id in ids for v in self.projects.get(id).registry.versions()}
        return {"versions": sorted(found, reverse=True)}

    def _current(self, id: int, label_config: str) -> Project:
        """The project, with the label config of this very request."""
        project = self.projects.get(id)
        if label_config and label_config != project.label_config_xml:
            return self.projects.remember(id, label_config=label_config)
        return project

    def _tell_of_failures(
        self, project: Project, tasks: Sequence[Mapping[str, Any]], answered: Answered
    ) -> None:
        failures = [
            (t.get("id"), a["error"]) for t, a in zip(tasks, answered.elements, strict=True) if "error" in a
        ]
        if failures:
            task, error = failures[0]
            more = f" ({len(failures)} of {len(tasks)} tasks of this request.)" if len(failures) > 1 else ""
            log.warning("project %d: task %s not predicted: %s%s", project.id, task, error, more)
            project.note_problem("predict", f"Task {task}: {error}{more}")
        if answered.deferred:
            self._ask(project, self.jobs.tasks_changed)  # whose turn it is now

    def _project_updated(self, project: Project, event: Event) -> dict[str, Any]:
        updated = self.projects.remember(project.id, title=event.title, label_config=event.label_config)
        if updated.label_config_xml == project.label_config_xml:
            return {"status": "noted"}  # our own write-back updates the project too: not a reason to train
        try:
            _checked_config(updated)
        except SRPUError as error:
            return {"status": "noted", "problem": str(error)}
        self._ask(updated, self.jobs.annotations_changed)
        return {"status": "queued"}

    def _ask(self, project: Project, ask: Callable[[int], None]) -> None:
        try:
            ask(project.id)
        except Exception:  # whatever ails the queue, Label Studio must not wait for it
            log.exception("project %d: the job queue did not take an event", project.id)
            project.note_problem(
                "queue", "An event could not be queued; the trainer finds the change at its next reconcile."
            )

    def _train(self, id: int) -> None:
        try:
            self.jobs.train_now(id)
        except Exception as error:  # any error of the queue's database, told in our words
            log.exception("project %d: the job queue did not take a training", id)
            raise QueueUnavailable(
                "The training could not be queued: the job database does not answer (see the backend's log); "
                "try again in a minute."
            ) from error


def _checked_config(project: Project) -> None:
    try:
        _ = project.label_config
    except SRPUError as error:
        log.warning("project %d: %s", project.id, error)
        project.note_problem("label config", str(error))
        raise


def _version(project: Project) -> str:
    return project.registry.champion() or UNTRAINED


def _context(payload: Mapping[str, Any]) -> object:
    """What was drawn with a smart tool; None in an ordinary request."""
    params = payload.get("params")
    return (params.get("context") or None) if isinstance(params, Mapping) else None


def _tasks(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tasks = payload.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
        raise BadRequest('`tasks` must be a list of Label Studio tasks, as in {"tasks": [{"id": 1, …}]}.')
    return tasks


def _text(payload: Mapping[str, Any], field: str) -> str:
    value = payload.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"`{field}` must be text, not {type(value).__name__}.")
    return value
