"""The protocol on the wire: routes, errors, authentication, and that the web process stays light."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient
from pydantic import SecretStr
from stand_ins import CONFIG, SETUP, FolderImages, RecordingJobs, load_threshold, publish

from srpu_backend.annotator import Champions
from srpu_backend.app import create_app
from srpu_backend.service import Service
from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
BASIC = {"Authorization": "Basic " + base64.b64encode(b"lab:hunter2").decode()}


def settings_for(folder: Path, **fields: Any) -> Settings:
    return Settings(model_dir=folder, label_studio_url="", label_studio_api_key=SecretStr(""), **fields)


def client_for(settings: Settings, jobs: RecordingJobs | None = None) -> TestClient:
    jobs = jobs or RecordingJobs()
    images = FolderImages(settings.model_dir)
    service = Service(settings, jobs, images, champions=Champions(2, load_threshold))
    return TestClient(create_app(settings, service=service, jobs=jobs))  # type: ignore[arg-type]


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return client_for(settings_for(tmp_path))


@pytest.fixture
def guarded(tmp_path: Path) -> TestClient:
    return client_for(
        settings_for(
            tmp_path,
            basic_auth_user="lab",
            basic_auth_pass=SecretStr("hunter2"),
            webhook_secret=SecretStr("hook-secret"),
        )
    )


@pytest.mark.parametrize("path", ["/", "/health", "/health/"])
def test_health_is_up(client: TestClient, path: str) -> None:
    answer = client.simulate_get(path)
    assert answer.status_code == 200
    assert answer.json["status"] == "UP"
    assert answer.json["model_class"] == "SRPUModel"


def test_health_needs_no_disk(tmp_path: Path) -> None:
    client = client_for(settings_for(tmp_path / "nowhere"))
    assert client.simulate_get("/health").status_code == 200
    assert not (tmp_path / "nowhere").exists()


def test_label_studio_connects_predicts_and_notifies(client: TestClient) -> None:
    assert client.simulate_post("/setup", json=SETUP).json == {"model_version": "untrained"}
    body = {"tasks": [{"id": 1, "data": {"image": "/a.png"}}], "project": "1.17", "label_config": CONFIG}
    assert client.simulate_post("/predict", json=body).json["results"][0]["result"] == []
    event = {"action": "ANNOTATION_CREATED", "annotation": {}, "task": {}, "project": {"id": 1}}
    assert client.simulate_post("/webhook", json=event).json == {"status": "queued"}
    assert client.simulate_get("/versions").json == {"versions": []}


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"x"', b"null", b"\xff\xfe", b"NaN"])
@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
def test_a_body_that_is_no_json_object_gets_one_sentence(client: TestClient, path: str, body: bytes) -> None:
    answer = client.simulate_post(path, body=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert list(answer.json) == ["error"]
    assert answer.json["error"].startswith("The body ")


def test_a_body_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    client = client_for(settings_for(tmp_path, max_request_bytes=100))
    answer = client.simulate_post("/setup", body=b"x" * 101)
    assert answer.status_code == 413
    assert "101 bytes" in answer.json["error"]


def test_an_unknown_project_is_not_found(client: TestClient) -> None:
    answer = client.simulate_post("/predict", json={"tasks": [], "project": "9.1"})
    assert answer.status_code == 404
    assert answer.json["error"].startswith("Project 9 is not connected")


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/nowhere", 404), ("GET", "/predict", 405)])
def test_other_routes_are_told_in_the_same_form(
    client: TestClient, method: str, path: str, code: int
) -> None:
    answer = client.simulate_request(method, path)
    assert answer.status_code == code
    assert list(answer.json) == ["error"]


def test_the_sentence_is_the_reason_phrase_that_label_studio_shows(client: TestClient) -> None:
    answer = client.simulate_post("/setup", json={**SETUP, "schema": "<View/>"})
    assert answer.status_code == 400
    assert answer.status.removeprefix("400 ")[:20] == answer.json["error"][:20]
    assert answer.status.isascii()
    assert answer.status.isprintable()


def test_a_defect_shows_a_reference_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_for(settings_for(tmp_path))

    def fail(self: Service, payload: Any) -> Any:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(Service, "setup", fail)
    answer = client.simulate_post("/setup", json=SETUP)
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "secret of the house" not in answer.text + answer.status
    assert f"[{answer.headers['X-Request-ID']}]" in answer.json["error"]
    assert any(record.exc_info for record in caplog.records)


def test_the_queue_is_warmed_up_by_the_first_request_only(tmp_path: Path) -> None:
    jobs = RecordingJobs()
    client = client_for(settings_for(tmp_path), jobs)
    assert jobs.warmed == 0
    client.simulate_get("/health")
    client.simulate_get("/health")
    assert jobs.warmed == 1


def test_a_training_that_cannot_be_queued_is_unavailable(tmp_path: Path) -> None:
    jobs = RecordingJobs(broken=True)
    client = client_for(settings_for(tmp_path), jobs)
    client.simulate_post("/setup", json=SETUP)
    answer = client.simulate_post("/webhook", json={"action": "START_TRAINING", "project": {"id": 1}})
    assert answer.status_code == 503


class TestAuthentication:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/setup"),
            ("POST", "/predict"),
            ("POST", "/webhook"),
            ("GET", "/versions"),
            ("GET", "/status"),
            ("GET", "/metrics"),
            ("GET", "/"),
            ("GET", "/nowhere"),
        ],
    )
    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Basic",
            "Basic !!!",
            "Bearer hunter2",
            "Basic " + base64.b64encode(b"lab:wrong").decode(),
            "Basic " + base64.b64encode(b"lab").decode(),
            "Basic " + base64.b64encode("läb:hunter2".encode()).decode(),
        ],
    )
    def test_strangers_are_refused(
        self, guarded: TestClient, method: str, path: str, authorization: str | None
    ) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        answer = guarded.simulate_request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="SRPU"'
        assert "user and password" in answer.json["error"]

    def test_health_is_open(self, guarded: TestClient) -> None:
        assert guarded.simulate_get("/health").status_code == 200

    def test_the_password_opens(self, guarded: TestClient) -> None:
        assert guarded.simulate_post("/setup", json=SETUP, headers=BASIC).status_code == 200

    def test_annotation_webhooks_pass_with_the_secret_header(self, guarded: TestClient) -> None:
        guarded.simulate_post("/setup", json=SETUP, headers=BASIC)
        event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
        for headers, code in (
            ({"X-SRPU-Secret": "hook-secret"}, 200),
            (BASIC, 200),
            ({"X-SRPU-Secret": "wrong"}, 401),
            ({"X-SRPU-Secret": "wröng"}, 401),
            ({"X-SRPU-Secret": ""}, 401),
        ):
            assert guarded.simulate_post("/webhook", json=event, headers=headers).status_code == code

    def test_the_secret_header_opens_webhooks_only(self, guarded: TestClient) -> None:
        answer = guarded.simulate_post("/setup", json=SETUP, headers={"X-SRPU-Secret": "hook-secret"})
        assert answer.status_code == 401

    def test_without_a_password_webhooks_are_open(self, client: TestClient) -> None:
        client.simulate_post("/setup", json=SETUP)
        event = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
        assert client.simulate_post("/webhook", json=event).status_code == 200


class TestStatus:
    def test_tells_each_project_and_the_trainer(self, tmp_path: Path) -> None:
        settings = settings_for(tmp_path)
        client = client_for(settings)
        client.simulate_post("/setup", json=SETUP)
        project = create_projects(settings).get(1)
        version = publish(project)
        project.update_state(stage="train", fraction=0.25, message="epoch 3 of 12", last_error="once")
        project.note_problem("predict", "Task 7: no such image")
        (told,) = client.simulate_get("/status").json["projects"]
        assert told["model_version"] == version
        assert told["labels"] == ["pore", "grain"]
        assert told["queue"] == []
        assert (told["job"]["stage"], told["job"]["fraction"]) == ("train", 0.25)
        assert told["last_error"] == "once"
        assert "next_reconcile" in told
        assert told["problems"][0]["message"] == "Task 7: no such image"

    def test_never_shows_a_token(self, client: TestClient) -> None:
        client.simulate_post("/setup", json=SETUP)
        assert SETUP["access_token"] not in client.simulate_get("/status").text

    def test_tells_whether_the_trainer_lives(self, tmp_path: Path) -> None:
        client = client_for(settings_for(tmp_path))
        assert client.simulate_get("/status").json["trainer"]["running"] is False
        (tmp_path / "worker.json").write_text(json.dumps({"pid": 4711}))
        trainer = client.simulate_get("/status").json["trainer"]
        assert (trainer["running"], trainer["pid"]) == (True, 4711)

    def test_one_broken_project_does_not_hide_the_others(self, tmp_path: Path) -> None:
        client = client_for(settings_for(tmp_path))
        for id in (1, 2):
            client.simulate_post("/setup", json={**SETUP, "project": f"{id}.5"})
        (tmp_path / "projects/1/project.json").write_text("{")
        broken, whole = client.simulate_get("/status").json["projects"]
        assert "cannot be read" in broken["error"]
        assert whole["model_version"] == "untrained"

    def test_a_queue_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        client = client_for(settings_for(tmp_path), RecordingJobs(broken=True))
        client.simulate_post("/setup", json=SETUP)
        answer = client.simulate_get("/status")
        assert "cannot be read" in answer.json["projects"][0]["queue"]
        assert "hunter2" not in answer.text


def create_projects(settings: Settings) -> Any:
    from srpu_backend.projects import Projects

    return Projects.of(settings)


def test_metrics_count_requests_and_tasks(client: TestClient) -> None:
    client.simulate_post("/setup", json=SETUP)
    client.simulate_post("/predict", json={"tasks": [{"id": 1}], "project": "1.1"})
    client.simulate_get("/nowhere")
    answer = client.simulate_get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'srpu_requests_total{method="POST",route="/setup",status="200"} 1' in lines
    assert 'srpu_requests_total{method="GET",route="unknown",status="404"} 1' in lines
    assert 'srpu_tasks_total{outcome="answered"} 1' in lines
    assert len([line for line in lines if line == "# TYPE srpu_requests_total counter"]) == 1


def test_health_is_answered_while_all_predictions_run(tmp_path: Path, caplog: Any) -> None:
    settings = settings_for(tmp_path, threads=2)
    jobs = RecordingJobs()
    client = client_for(settings, jobs)
    client.simulate_post("/setup", json=SETUP)
    answers = []

    class Slow(Service):
        def predict(self, payload: Any) -> dict[str, Any]:
            answers.append(slow.simulate_post("/predict", json={"tasks": [], "project": "1.1"}))
            answers.append(slow.simulate_get("/health"))
            return super().predict(payload)

    service = Slow(settings, jobs, FolderImages(tmp_path))
    slow = TestClient(create_app(settings, service=service, jobs=jobs))  # type: ignore[arg-type]
    assert slow.simulate_post("/predict", json={"tasks": [], "project": "1.1"}).status_code == 200
    assert [answer.status_code for answer in answers] == [503, 200]


def test_the_web_process_loads_neither_torch_nor_label_studio_ml(tmp_path: Path) -> None:
    program = (
        "import sys, _wsgi; from falcon.testing import TestClient\n"
        "client = TestClient(_wsgi.app)\n"
        f"client.simulate_post('/setup', json={SETUP!r})\n"
        f"client.simulate_post('/predict', json={{'tasks': [], 'project': '1.1'}})\n"
        "client.simulate_get('/status')\n"
        "heavy = {'torch', 'torchvision', 'label_studio_ml', 'flask', 'timm', 'lightning'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MODEL_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_bad_settings_end_the_server_with_one_sentence(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "_wsgi.py"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MODEL_DIR": str(tmp_path), "PORT": "many"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert "PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_requests_are_logged_with_their_id_and_health_is_quiet(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.simulate_get("/health")
    client.simulate_post("/setup", json=SETUP)
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith("POST /setup 200") for message in messages)
    assert not any("/health" in message for message in messages)
    assert SETUP["access_token"] not in caplog.text
