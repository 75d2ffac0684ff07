"""What Label Studio makes of the web process's answers: connect, open a task, errors it shows to people."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from polling import eventually

from examples.demo.label_studio import free_port
from srpu_backend.projects import Projects

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
TEXT_ONLY = """<View>
  <Text name="text" value="$text"/>
  <Labels name="labels" toName="text"><Label value="name"/></Labels>
</View>"""


@dataclass
class Backend:
    """A running web process."""

    url: str
    model_dir: Path

    def status(self, project: int) -> dict[str, Any]:
        projects = requests.get(f"{self.url}/status", timeout=30).json()["projects"]
        return next(told for told in projects if told["id"] == project)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    port, model_dir = free_port(), tmp_path / "state"
    environment = {"PATH": os.environ["PATH"], "SRPU_HOST": "127.0.0.1", "PORT": str(port)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "srpu_backend", "serve"],
            cwd=ROOT,
            env=environment | {"MODEL_DIR": str(model_dir)},
            stdout=log,
            stderr=log,
        )
    try:
        backend = Backend(f"http://127.0.0.1:{port}", model_dir)
        eventually(lambda: _is_up(backend.url))
        yield backend
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


def test_a_project_connects_and_its_first_task_opens_without_a_model(
    backend: Backend, studio: Any, project_id: int
) -> None:
    connected = studio.create_ml_backend(project_id, url=backend.url, title="SRPU")
    assert connected["state"] == "CO"
    project = Projects(backend.model_dir).get(project_id)
    assert project.connection is not None
    assert project.connection.url == studio.url
    (task,) = studio.import_tasks(project_id, [{"data": {"image": "/data/upload/none.png"}}])
    opened = studio.get(f"/api/tasks/{task}").json()
    assert [p["model_version"] for p in opened["predictions"]] == ["untrained"]
    assert opened["predictions"][0]["result"] == []


def test_annotating_is_acknowledged_and_queued(backend: Backend, studio: Any, project_id: int) -> None:
    studio.create_ml_backend(project_id, url=backend.url, title="SRPU")
    (task,) = studio.import_tasks(project_id, [{"data": {"image": "/data/upload/none.png"}}])
    studio.post(f"/api/tasks/{task}/annotations/", {"result": [], "was_cancelled": False})
    assert eventually(lambda: backend.status(project_id)["queue"])[0]["kind"] == "refresh"


def test_start_training_is_queued(backend: Backend, studio: Any, project_id: int) -> None:
    connected = studio.create_ml_backend(project_id, url=backend.url, title="SRPU")
    studio.post(f"/api/ml/{connected['id']}/train", {})
    (job,) = eventually(lambda: [j for j in backend.status(project_id)["queue"] if j["kind"] == "evolve"])
    assert job["forced"] is True


def test_a_label_config_that_cannot_be_served_is_explained_in_label_studio(
    backend: Backend, studio: Any, new_project: Callable[..., int]
) -> None:
    project = new_project()
    studio.create_ml_backend(project, url=backend.url, title="SRPU")
    studio.update_project(project, label_config=TEXT_ONLY)
    (shown,) = studio.ml_backends(project)
    assert shown["state"] == "ER"
    told = backend.status(project)["label_config_error"]
    assert told[:60] in shown["error_message"]


def test_versions_are_listed(backend: Backend, studio: Any, project_id: int) -> None:
    connected = studio.create_ml_backend(project_id, url=backend.url, title="SRPU")
    assert studio.get(f"/api/ml/{connected['id']}/versions").json() == {"versions": []}


def _is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except (requests.ConnectionError, requests.Timeout):
        return False
