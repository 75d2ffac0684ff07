"""SRPUModel under the real label-studio-ml 1.0.9 server, through its own Flask application."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from polling import eventually
from stand_ins import CONFIG, SETUP, publish

from srpu_backend.projects import Projects

DEADLINE = 60.0
OTHER = {**SETUP, "project": "2.1795332156", "schema": CONFIG.replace('"grain"', '"phase"')}
NO_IMAGE = "<View><Text name='t' value='$t'/><Labels name='l' toName='t'><Label value='a'/></Labels></View>"


def task(project: int) -> dict[str, Any]:
    return {"id": 1, "project": project, "data": {"image": "/missing.png"}}


def predict_body(project: int) -> dict[str, Any]:
    return {
        "tasks": [task(project)],
        "project": f"{project}.1795332156",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": None},
    }


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A test client of the 1.0.9 server with our plugin; forgets its model between tests."""
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("SRPU_DEBOUNCE", "0")
    from label_studio_ml.api import init_app
    from label_studio_ml.model import LabelStudioMLManager

    from srpu_backend import model

    model._service.cache_clear()
    monkeypatch.setattr(LabelStudioMLManager, "_current_model", {})
    app = init_app(model.SRPUModel, model_dir=str(tmp_path / "upstream"))
    with app.test_client() as client:
        yield client
    if model._service.cache_info().currsize:
        model._service().jobs.close()
    model._service.cache_clear()


def test_setup_remembers_the_project_and_says_the_champion(server: Any, tmp_path: Path) -> None:
    assert server.post("/setup", json=SETUP).get_json() == {"model_version": "untrained"}
    project = Projects(tmp_path).get(1)
    assert project.connection is not None
    assert project.connection.url == SETUP["hostname"]
    version = publish(project)
    assert server.post("/setup", json=SETUP).get_json() == {"model_version": version}


def test_predict_answers_every_task(server: Any) -> None:
    server.post("/setup", json=SETUP)
    answer = server.post("/predict", json=predict_body(1))
    assert answer.status_code == 200
    assert answer.get_json()["results"] == [{"result": [], "score": 0.0, "model_version": "untrained"}]


def test_two_projects_are_not_mixed_up(server: Any, tmp_path: Path) -> None:
    server.post("/setup", json=SETUP)
    server.post("/setup", json=OTHER)
    assert Projects(tmp_path).get(1).label_config_xml == CONFIG
    assert Projects(tmp_path).get(2).label_config_xml == OTHER["schema"]
    version = publish(Projects(tmp_path).get(2))
    assert server.post("/setup", json=SETUP).get_json() == {"model_version": "untrained"}
    assert server.post("/setup", json=OTHER).get_json() == {"model_version": version}


def test_a_config_that_cannot_be_served_is_told_without_traceback(server: Any) -> None:
    answer = server.post("/setup", json={**SETUP, "schema": NO_IMAGE})
    assert answer.status_code == 400
    assert answer.get_json()["detail"]
    assert "Traceback" not in answer.get_data(as_text=True)


def test_an_unknown_project_is_told_without_traceback(server: Any) -> None:
    server.post("/setup", json=SETUP)
    answer = server.post("/predict", json=predict_body(9))
    assert answer.status_code == 400
    assert "Project 9 is not connected" in answer.get_json()["detail"]
    assert "Traceback" not in answer.get_data(as_text=True)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["START_TRAINING", "ANNOTATION_CREATED"])
def test_a_webhook_enqueues_from_the_process_upstream_starts(
    server: Any, tmp_path: Path, action: str
) -> None:
    server.post("/setup", json=SETUP)
    event = {"action": action, "annotation": {"id": 1}, "project": {"id": 1, "label_config": CONFIG}}
    assert server.post("/webhook", json=event).status_code == 201
    result = eventually(lambda: next((tmp_path / "upstream").glob("*/job_result.json"), None))
    assert json.loads(result.read_text()) == {"status": "queued"}
    assert waiting_jobs(tmp_path / "jobs.sqlite") == 1


def test_fit_accepts_both_call_shapes(server: Any, tmp_path: Path) -> None:
    from srpu_backend.model import SRPUModel

    server.post("/setup", json=SETUP)
    data = {"project": {"id": 1, "title": "a", "label_config": CONFIG}}
    model = SRPUModel(label_config=CONFIG)
    assert model.fit((), event="PROJECT_UPDATED", data=data, job_id="7", workdir="x") == {"status": "noted"}
    assert model.fit("PROJECT_UPDATED", data) == {"status": "noted"}


def test_fit_for_an_unknown_project_says_so(server: Any) -> None:
    from srpu_backend.model import SRPUModel

    answer = SRPUModel(label_config=CONFIG).fit((), event="START_TRAINING", data={"project": {"id": 9}})
    assert answer["status"] == "refused"
    assert "Project 9" in answer["error"]


def test_every_event_the_service_knows_reaches_fit(server: Any) -> None:
    from srpu_backend.events import EVENTS
    from srpu_backend.model import SRPUModel

    assert set(SRPUModel.TRAIN_EVENTS) == set(EVENTS)
    assert "START_TRAINING" in SRPUModel.TRAIN_EVENTS


def waiting_jobs(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("select count(*) from workflow_status").fetchone()[0])
