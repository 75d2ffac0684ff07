"""The plugin: SRPU as a `LabelStudioMLBase` for those who must run label-studio-ml's own server.

One class serves both generations, whose contracts differ (1.0.9 from PyPI, 2.x from its repository):

* 1.0.9 keeps one instance for all projects and tells it neither the project nor, in `predict`, the label
  config; 2.x makes an instance a request and drops the host and token that /setup brought. Both serve
  with Flask, so the request itself is read and handed to the same `Service` as our own face uses.
* 1.0.9 starts a process a webhook and calls `fit` in it; 2.x calls `fit` within the request. Here `fit`
  only asks the trainer, which is `python -m srpu_backend worker` in either case.
* 1.0.9 calls a model version after the job that made it, 2.x after what its cache holds. Both are made to
  say the champion: Label Studio stores duplicates when /setup and /predict disagree.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import flask
import label_studio_ml.model as upstream
from label_studio_ml.exceptions import AnswerException
from label_studio_ml.model import LabelStudioMLBase

from model_zoo.errors import SRPUError
from srpu_backend.annotator import UNTRAINED
from srpu_backend.events import EVENTS
from srpu_backend.images import ImageStore
from srpu_backend.jobs import JobClient
from srpu_backend.projects import UnknownProject, parse_project_id
from srpu_backend.service import Service
from srpu_backend.settings import read_settings

log = logging.getLogger(__name__)

FIRST_GENERATION = hasattr(upstream, "LabelStudioMLManager")


class SRPUModel(LabelStudioMLBase):
    """Label Studio's view of SRPU; holds no state of its own."""

    TRAIN_EVENTS = tuple(EVENTS)

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        train_output: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """2.x gives `project_id` and `label_config`; 1.0.9 gives all but the project's id."""
        request = _request()
        asked = request.get("project")
        self._project: object = project_id or (asked.get("id") if isinstance(asked, Mapping) else asked)
        if _path() == "/setup":
            with _errors_told():
                _service().setup(request)
        if FIRST_GENERATION:
            super().__init__(label_config=label_config, train_output=train_output, **kwargs)
        else:
            super().__init__(project_id=project_id, label_config=label_config)

    @property
    def model_version(self) -> str:
        """The champion of the project this instance was made for, or `untrained`."""
        if not self._project:
            return UNTRAINED
        try:
            project = _service().projects.get(parse_project_id(self._project))
        except UnknownProject:
            return UNTRAINED
        return project.registry.champion() or UNTRAINED

    def get(self, key: str) -> Any:
        """2.x: what its cache holds, except the version, which only the registry knows."""
        return self.model_version if key == "model_version" else super().get(key)

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Both call shapes; one answer a task, see `Service.predict`."""
        request = _request()
        payload = {
            "tasks": list(tasks),
            "project": request.get("project") or _project_of(tasks) or self._project,
            "label_config": request.get("label_config"),
            "params": {"context": context},
        }
        with _errors_told():
            results: list[dict[str, Any]] = _service().predict(payload)["results"]
        return results

    def fit(
        self,
        *args: Any,
        event: str | None = None,
        data: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Ask the trainer: called as `fit((), event=…, data=…)` by 1.0.9, as `fit(event, data)` by 2.x."""
        event = event or next((a for a in args if isinstance(a, str)), None)
        data = data or next((a for a in args if isinstance(a, Mapping)), {})
        # 1.0.9 calls us in a process that ends right after: what was asked must be carried out by then.
        jobs = JobClient(read_settings()) if FIRST_GENERATION else None
        try:
            return (_service_with(jobs) if jobs else _service()).webhook({**data, "action": event})
        except SRPUError as error:
            log.warning("%s: %s", event, error)
            return {"status": "refused", "error": str(error)}
        finally:
            if jobs:
                jobs.close()


@lru_cache(maxsize=1)
def _service() -> Service:
    """The one service of this process: either server makes model objects at will."""
    return _service_with(JobClient(read_settings()))


def _service_with(jobs: JobClient) -> Service:
    settings = read_settings()
    return Service(settings, jobs, ImageStore(settings, settings.model_dir / "images"))


def _request() -> Mapping[str, Any]:
    """The JSON object of the request that is being served; empty outside of one."""
    body = flask.request.get_json(silent=True) if flask.has_request_context() else None
    return body if isinstance(body, dict) else {}


def _path() -> str:
    return str(flask.request.path) if flask.has_request_context() else ""


def _project_of(tasks: Sequence[Mapping[str, Any]]) -> object:
    """Label Studio's tasks name their project, which outlives 1.0.9's mixing them up."""
    return tasks[0].get("project") if tasks else None


@contextmanager
def _errors_told() -> Iterator[None]:
    """Within a request, our sentence and status 400; upstream would answer with a traceback."""
    try:
        yield
    except SRPUError as error:
        if not flask.has_request_context():
            raise
        log.warning("%s: %s", _path(), error)
        raise AnswerException(400, str(error), {"traceback": ""}) from None


if FIRST_GENERATION:

    class _ChampionWrapper(upstream.ModelWrapper):
        """1.0.9's record of its current model, whose version is a job's number; ours is the champion's."""

        @property
        def model_version(self) -> str:
            return str(self.model.model_version)

        @model_version.setter
        def model_version(self, value: object) -> None:
            """Upstream's constructor sets a job's number, which means nothing here."""

    upstream.ModelWrapper = _ChampionWrapper
