"""`connect` against a real Label Studio, with and without its protection of private addresses."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import SecretStr

from examples.demo.label_studio import Account, LabelStudioProcess, free_port
from srpu_backend.__main__ import main
from srpu_backend.connect import CannotConnect, ConnectReport, connect
from srpu_backend.label_config import BadLabelConfig
from srpu_backend.projects import Projects
from srpu_backend.secrets import webhook_secret
from srpu_backend.settings import Settings
from srpu_backend.studio import Studio, StudioError

pytestmark = pytest.mark.e2e

BRUSH_CONFIG = """<View><Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="pore"/></BrushLabels></View>"""


@dataclass
class StandInBackend:
    """Speaks just enough of the protocol, and notes what it was sent."""

    url: str
    password: str = ""
    events: list[tuple[str, str | None]] = field(default_factory=list)
    """Action and secret header of each webhook."""


@pytest.fixture
def backend() -> Iterator[StandInBackend]:
    with stand_in() as backend:
        yield backend


@contextmanager
def stand_in() -> Iterator[StandInBackend]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"status": "UP"})

        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/webhook":
                backend.events.append((payload["action"], self.headers["X-SRPU-Secret"]))
            self.answer({"model_version": "untrained"})

        def answer(self, body: dict[str, Any]) -> None:
            expected = "Basic " + base64.b64encode(f"lab:{backend.password}".encode()).decode()
            denied = (
                backend.password and self.path != "/webhook" and self.headers["Authorization"] != expected
            )
            text = json.dumps(body).encode()
            self.send_response(401 if denied else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    backend = StandInBackend(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model_dir=tmp_path / "model-dir")


@pytest.fixture
def connected(
    label_studio: LabelStudioProcess, backend: StandInBackend, settings: Settings, project_id: int
) -> Callable[..., ConnectReport]:
    def run(**changes: Any) -> ConnectReport:
        asked: dict[str, Any] = {
            "settings": settings,
            "studio_url": label_studio.url,
            "token": label_studio.account.token,
            "backend_url": backend.url,
            "project": project_id,
        }
        asked |= changes
        return connect(asked.pop("settings"), **asked)

    return run


def kinds(report: ConnectReport) -> set[str]:
    return {finding.kind for finding in report.findings}


def test_a_project_is_connected_with_backend_webhook_and_secret(
    connected: Callable[..., ConnectReport],
    studio: Studio,
    settings: Settings,
    backend: StandInBackend,
    project_id: int,
) -> None:
    report = connected()
    assert report.ok, report.as_text()
    assert kinds(report) == {"done"}
    assert "Connected: label at" in report.as_text()
    (registered,) = studio.ml_backends(project_id)
    assert registered["url"] == backend.url
    assert registered["readable_state"] == "Connected"
    (hook,) = studio.webhooks(project_id)
    assert hook["url"] == f"{backend.url}/webhook"
    assert hook["send_for_all_actions"]
    assert hook["send_payload"]
    assert studio.project(project_id)["show_collab_predictions"]
    (task,) = studio.import_tasks(project_id, [{"data": {"image": "a.png"}}])
    studio.post(f"/api/tasks/{task}/annotations/", {"result": []})
    secret = webhook_secret(settings)
    assert backend.events[-2:] == [("TASKS_CREATED", secret), ("ANNOTATION_CREATED", secret)]


def test_connecting_again_changes_nothing(
    connected: Callable[..., ConnectReport], studio: Studio, project_id: int
) -> None:
    connected()
    before = studio.ml_backends(project_id)[0]["id"], studio.webhooks(project_id)
    assert connected().ok
    assert (studio.ml_backends(project_id)[0]["id"], studio.webhooks(project_id)) == before
    assert len(studio.ml_backends(project_id)) == 1


def test_leftover_webhooks_are_cleared_away(
    connected: Callable[..., ConnectReport],
    studio: Studio,
    settings: Settings,
    backend: StandInBackend,
    project_id: int,
) -> None:
    studio.create_webhook(project_id, f"{backend.url}/webhook", {"X-SRPU-Secret": "of another time"})
    studio.create_webhook(project_id, f"{backend.url}/webhook/", {})
    elsewhere = studio.create_webhook(project_id, "http://127.0.0.1:1/somebody-elses", {})
    assert connected().ok
    hooks = {hook["url"]: hook for hook in studio.webhooks(project_id)}
    assert len(studio.webhooks(project_id)) == 2
    assert hooks[f"{backend.url}/webhook"]["headers"] == {"X-SRPU-Secret": webhook_secret(settings)}
    assert elsewhere["url"] in hooks


def test_the_trainer_knows_the_project_by_what_was_tried(
    connected: Callable[..., ConnectReport],
    label_studio: LabelStudioProcess,
    settings: Settings,
    project_id: int,
) -> None:
    connected()
    projects = Projects.of(settings)
    projects.remember(project_id, url="http://its-own-name:8080", token="creators-legacy-token", title="new")
    project = projects.get(project_id)
    assert project.title == "new"
    assert project.connection is not None
    assert project.connection.url == label_studio.url
    assert project.connection.token.get_secret_value() == label_studio.account.token


def test_a_project_is_made_once(
    connected: Callable[..., ConnectReport], studio: Studio, tmp_path: Path
) -> None:
    with pytest.raises(CannotConnect, match="--label-config"):
        connected(project=None, create="superalloys of ours")
    made = connected(project=None, create="superalloys of ours", label_config=BRUSH_CONFIG)
    try:
        assert studio.project(made.project)["title"] == "superalloys of ours"
        assert connected(project=None, create="superalloys of ours").project == made.project
    finally:
        studio.delete_project(made.project)


def test_basic_authentication_is_handed_to_label_studio(
    connected: Callable[..., ConnectReport], backend: StandInBackend, settings: Settings, studio: Studio
) -> None:
    backend.password = "pass-phrase"
    with pytest.raises(CannotConnect, match="BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        connected()
    known = settings.model_copy(update={"basic_auth_user": "lab", "basic_auth_pass": _secret("pass-phrase")})
    report = connected(settings=known)
    assert report.ok, report.as_text()
    (registered,) = studio.ml_backends(report.project)
    assert registered["auth_method"] == "BASIC_AUTH"
    assert registered["readable_state"] == "Connected"
    backend.password = "changed"
    changed = settings.model_copy(update={"basic_auth_user": "lab", "basic_auth_pass": _secret("changed")})
    assert connected(settings=changed).ok


def _secret(text: str) -> SecretStr:
    return SecretStr(text)


def test_a_config_that_cannot_be_served_connects_nothing(
    connected: Callable[..., ConnectReport], new_project: Callable[..., int], studio: Studio
) -> None:
    words = (
        '<View><Text name="t" value="$t"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
    )
    project = new_project(label_config=f"<View>{words}</View>")
    with pytest.raises(BadLabelConfig):
        connected(project=project)
    assert studio.ml_backends(project) == []


def test_an_unreachable_backend_is_told(connected: Callable[..., ConnectReport]) -> None:
    with pytest.raises(CannotConnect, match=r"cannot reach the backend .*as seen from Label Studio"):
        connected(backend_url=f"http://127.0.0.1:{free_port()}")


def test_a_backend_that_was_connected_before_is_pointed_out(
    connected: Callable[..., ConnectReport], studio: Studio, project_id: int
) -> None:
    with stand_in() as other:
        studio.create_ml_backend(project_id, url=other.url, title="other")
        report = connected()
    assert not report.ok
    assert "asks only the first: remove it" in report.as_text()


def test_wrong_token_and_lost_project_are_told(connected: Callable[..., ConnectReport]) -> None:
    with pytest.raises(StudioError, match="does not know this token"):
        connected(token="0" * 40)
    with pytest.raises(StudioError, match="has no project 999999"):
        connected(project=999999)


def test_the_command_prints_what_it_did(
    label_studio: LabelStudioProcess,
    backend: StandInBackend,
    project_id: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "model-dir"))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.account.token)
    asked = ["connect", "--url", label_studio.url, "--project", str(project_id)]
    assert main([*asked, "--backend", backend.url]) == 0
    assert f"Connected: label at {label_studio.url}/projects/{project_id}/data" in capsys.readouterr().out
    assert main([*asked, "--token", "0" * 40]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["both protections", "only SSRF protection"])
def test_blocked_private_addresses_are_explained(
    label_studio: LabelStudioProcess, backend: StandInBackend, settings: Settings, tmp_path: Path, half: bool
) -> None:
    protections = {"SSRF_PROTECTION_ENABLED": "true", "ML_BLOCK_LOCAL_IP": "false" if half else "true"}
    with (
        LabelStudioProcess(tmp_path / "guarded", environment=protections) as guarded,
        Studio(guarded.url, Account().token) as studio,
    ):
        project = int(studio.create_project("guarded", BRUSH_CONFIG)["id"])
        asked = {"studio_url": guarded.url, "token": Account().token, "backend_url": backend.url}
        if half:
            report = connect(settings, **asked, project=project)
            told = report.as_text()
            assert not report.ok
            assert "Predictions work, but Label Studio does not report annotations" in told
            assert len(studio.ml_backends(project)) == 1
        else:
            with pytest.raises(CannotConnect, match="refuses the backend") as refused:
                connect(settings, **asked, project=project)
            told = str(refused.value)
            assert studio.ml_backends(project) == []
    assert "ML_BLOCK_LOCAL_IP=false" in told
    assert "SSRF_PROTECTION_ENABLED=false" in told
    assert "USER_ADDITIONAL_BANNED_SUBNETS" in told


@pytest.mark.slow
def test_the_safer_switches_that_are_named_work(
    label_studio: LabelStudioProcess, backend: StandInBackend, settings: Settings, tmp_path: Path
) -> None:
    named = {
        "SSRF_PROTECTION_ENABLED": "true",
        "ML_BLOCK_LOCAL_IP": "true",
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16",
    }
    with (
        LabelStudioProcess(tmp_path / "guarded", environment=named) as guarded,
        Studio(guarded.url, Account().token) as studio,
    ):
        project = int(studio.create_project("guarded", BRUSH_CONFIG)["id"])
        report = connect(
            settings,
            studio_url=guarded.url,
            token=Account().token,
            backend_url=backend.url,
            project=project,
        )
        assert report.ok, report.as_text()
