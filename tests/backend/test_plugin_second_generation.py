"""SRPUModel under label-studio-ml 2.x, which is not on PyPI: its contract, retold from its source.

A model object is made for every request, is given the project's id and its label config, and keeps strings in
a cache of its own; `predict` gets `context`, `fit` gets event and data within the webhook request, and there
is no `LabelStudioMLManager`.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import flask
import pytest
from stand_ins import CONFIG, SETUP, RecordingJobs, publish

from srpu_backend.projects import Projects

pytestmark = pytest.mark.fast

TRAIN_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")


class SecondGenerationBase(ABC):
    """`LabelStudioMLBase` of 2.x as far as a plugin can see it."""

    cache: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        if not self.model_version:
            self.set("model_version", "0.0.1")
        self.setup()

    def get(self, key: str) -> str | None:
        return self.cache.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        self.cache[self.project_id, key] = value

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")

    def setup(self) -> None:  # noqa: B027
        """For a plugin to override."""

    @abstractmethod
    def predict(self, tasks: Any, context: Any = None, **kwargs: Any) -> Any: ...

    def fit(self, event: str, data: Any, **additional_params: Any) -> Any:  # noqa: B027
        """For a plugin to override."""


def second_generation_server(model_class: Any) -> flask.Flask:
    """The routes of 2.x's `api.py`."""
    server = flask.Flask("second generation")

    @server.route("/setup", methods=["POST"])
    def setup() -> Any:
        data = flask.request.json
        model = model_class(project_id=data["project"].split(".", 1)[0], label_config=data["schema"])
        return flask.jsonify({"model_version": model.get("model_version")})

    @server.route("/predict", methods=["POST"])
    def predict() -> Any:
        data = flask.request.json
        params = data.get("params", {})
        context = params.pop("context", {})
        model = model_class(
            project_id=str(data["project"]).split(".", 1)[0], label_config=data.get("label_config")
        )
        return flask.jsonify({"results": model.predict(data["tasks"], context=context, **params)})

    @server.route("/webhook", methods=["POST"])
    def webhook() -> Any:
        data = flask.request.json
        event = data.pop("action")
        if event not in TRAIN_EVENTS:
            return flask.jsonify({"status": "Unknown event"}), 200
        model = model_class(str(data["project"]["id"]), label_config=data["project"].get("label_config"))
        return flask.jsonify({"result": model.fit(event, data), "status": "ok"}), 201

    return server


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Our plugin module, imported where label-studio-ml is 2.x."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    package, model, exceptions = (
        ModuleType(name)
        for name in ("label_studio_ml", "label_studio_ml.model", "label_studio_ml.exceptions")
    )
    model.LabelStudioMLBase = SecondGenerationBase  # type: ignore[attr-defined]
    exceptions.AnswerException = RuntimeError  # type: ignore[attr-defined]
    package.model, package.exceptions = model, exceptions  # type: ignore[attr-defined]
    for module in (package, model, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "srpu_backend.model", raising=False)
    SecondGenerationBase.cache.clear()
    imported = importlib.import_module("srpu_backend.model")
    jobs = RecordingJobs()
    monkeypatch.setattr(imported, "JobClient", lambda settings: jobs)
    imported.recorded = jobs  # type: ignore[attr-defined]
    yield imported
    sys.modules.pop("srpu_backend.model", None)


@pytest.fixture
def server(plugin: ModuleType) -> Any:
    return second_generation_server(plugin.SRPUModel).test_client()


def test_setup_says_the_champion_and_keeps_host_and_token(server: Any, tmp_path: Path) -> None:
    assert server.post("/setup", json=SETUP).get_json() == {"model_version": "untrained"}
    project = Projects(tmp_path).get(1)
    assert project.connection is not None
    assert project.connection.token.get_secret_value() == SETUP["access_token"]
    version = publish(project)
    assert server.post("/setup", json=SETUP).get_json() == {"model_version": version}


def test_predict_takes_the_context(server: Any) -> None:
    server.post("/setup", json=SETUP)
    body = {
        "tasks": [{"id": 1, "project": 1, "data": {"image": "/a.png"}}],
        "project": "1.17",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": {"result": []}},
    }
    results = server.post("/predict", json=body).get_json()["results"]
    (answer,) = results
    assert (answer["result"], answer["score"], answer["model_version"]) == ([], 0.0, "untrained")
    assert "SRPU_ALLOWED_IMAGE_FOLDERS" in answer["error"]  # the image of the task cannot be had


@pytest.mark.parametrize(
    ("action", "asked"), [("ANNOTATION_CREATED", "annotations"), ("START_TRAINING", "train")]
)
def test_events_are_queued_within_the_request(
    server: Any, plugin: ModuleType, action: str, asked: str
) -> None:
    server.post("/setup", json=SETUP)
    event = {"action": action, "project": {"id": 1, "label_config": CONFIG}}
    answer = server.post("/webhook", json=event)
    assert answer.get_json()["result"] == {"status": "queued"}
    assert plugin.recorded.asked == [(asked, 1)]


def test_outside_of_a_request_it_can_be_made_and_asked(server: Any, plugin: ModuleType) -> None:
    server.post("/setup", json=SETUP)
    model = plugin.SRPUModel(project_id="1", label_config=CONFIG)
    assert str(model.model_version) == "untrained"
    assert model.predict([{"id": 1, "data": {}}])[0]["result"] == []
