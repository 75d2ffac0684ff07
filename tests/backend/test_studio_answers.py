"""`Studio` against a server that misbehaves in every way a real one does."""

from __future__ import annotations

import base64
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.demo.label_studio import free_port
from srpu_backend.studio import Studio, StudioError
from srpu_backend.studio.tokens import StudioToken

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    authorization: str | None
    body: Any


@dataclass
class Server:
    """Answers as told; a callable decides by request."""

    url: str = ""
    answer: Callable[[Asked], Answer] = lambda asked: (200, {})
    asked: list[Asked] = field(default_factory=list)

    def queue(self, *answers: Answer) -> None:
        """Answer these in turn, the last one for ever."""
        remaining = list(answers)
        self.answer = lambda asked: remaining.pop(0) if len(remaining) > 1 else remaining[0]


@pytest.fixture
def new_server() -> Iterator[Callable[[], Server]]:
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start() -> Server:
        server = Server()

        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(sent) if sent else None
                asked = Asked(self.command, self.path, self.headers["Authorization"], body)
                server.asked.append(asked)
                status, content, *headers = server.answer(asked)
                text = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in (headers[0] if headers else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                with suppress(BrokenPipeError):  # who asked may have given up
                    self.end_headers()
                    self.wfile.write(text)

            do_GET = do_POST = do_PATCH = do_DELETE = reply  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        running.append((http, thread))
        server.url = f"http://127.0.0.1:{http.server_port}"
        return server

    yield start
    for http, thread in running:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def server(new_server: Callable[[], Server]) -> Server:
    return new_server()


@pytest.fixture
def studio(server: Server) -> Iterator[Studio]:
    with Studio(server.url, "legacy-token", timeout=5) as studio:
        yield studio


def jwt(kind: str, serial: int = 0, life: int = 300) -> str:
    claims = {"token_type": kind, "iat": 1000, "exp": 1000 + life, "jti": str(serial)}
    return ".".join(["e30", base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("="), "s"])


def exchange(server: Server) -> Callable[[Asked], Answer]:
    """Hands out a new access token at each exchange, and accepts the newest only."""

    def answer(asked: Asked) -> Answer:
        made = sum(a.path == "/api/token/refresh" for a in server.asked)
        if asked.path == "/api/token/refresh":
            return 200, {"access": jwt("access", made)}
        if asked.authorization != f"Bearer {jwt('access', made)}":
            return 401, {"detail": "Token is expired"}
        return 200, {"id": 7}

    return answer


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, {"detail": "Invalid token."}, "does not know this token (Invalid token.)"),
        (
            401,
            {"detail": "legacy token authentication has been disabled for this organization"},
            "legacy tokens switched off: use a personal access token",
        ),
        (403, {"detail": "You do not have permission"}, "forbids project 7 (You do not have permission)"),
        (404, {"detail": "No Project matches"}, "has no project 7: it was deleted"),
        (400, {"validation_errors": {"title": ["too short"]}}, "does not accept project 7: title: too short"),
        (413, "<html>too large</html>", "finds project 7 too large"),
        (500, "<html>Server Error</html>", "failed at project 7 (500: Internal Server Error)"),
    ],
)
def test_each_refusal_is_one_sentence_with_its_status(
    server: Server, studio: Studio, status: int, body: Any, sentence: str
) -> None:
    server.queue((status, body))
    with pytest.raises(StudioError) as told:
        studio.project(7)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)
    assert server.url in str(told.value)
    assert told.value.status == status


def test_nobody_listening_is_told() -> None:
    with (
        Studio(f"http://127.0.0.1:{free_port()}", "t") as studio,
        pytest.raises(StudioError, match="cannot be reached: is it running") as told,
    ):
        studio.update_project(7, title="x")
    assert told.value.status is None


def test_silence_is_told_and_does_not_last(server: Server) -> None:
    release = threading.Event()
    server.answer = lambda asked: (200, {}) if release.wait(10) else (500, "")
    with (
        Studio(server.url, "t", timeout=0.2) as studio,
        pytest.raises(StudioError, match="did not answer in time") as told,
    ):
        studio.user()
    release.set()
    assert told.value.status is None


def test_a_login_page_instead_of_an_answer_is_told(server: Server, studio: Studio) -> None:
    server.queue((200, "<html>please log in</html>"))
    with pytest.raises(StudioError, match="answered no JSON when asked for project 7"):
        studio.project(7)


@pytest.mark.parametrize("url", ["", "label-studio:8080", "ftp://host", "http://"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(StudioError, match="is not the address of a Label Studio"):
        Studio(url, "t")


def test_reading_is_repeated_when_a_proxy_is_restarting(server: Server, studio: Studio) -> None:
    server.queue((502, ""), (503, ""), (200, {"id": 7}))
    assert studio.project(7) == {"id": 7}


def test_writing_is_never_repeated(server: Server, studio: Studio) -> None:
    server.queue((502, ""), (201, {"created": 1}))
    with pytest.raises(StudioError, match="failed at predictions for project 7"):
        studio.import_predictions(7, [{"task": 1, "result": []}])
    assert len(server.asked) == 1


def test_other_hosts_see_no_token(
    new_server: Callable[[], Server], server: Server, studio: Studio, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password pass\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    other = new_server()
    server.queue((302, "", {"Location": f"{other.url}/elsewhere"}))
    studio.get("/data/upload/1/a.png")
    studio.get(f"{other.url}/directly")
    assert [a.authorization for a in server.asked] == ["Token legacy-token"]
    assert [a.path for a in other.asked] == ["/elsewhere", "/directly"]
    assert all("legacy" not in (a.authorization or "") for a in other.asked)


def test_a_personal_access_token_is_exchanged_once_and_renewed_in_time(server: Server) -> None:
    now = 5000.0
    server.answer = exchange(server)
    token = StudioToken(server.url, jwt("refresh"), clock=lambda: now)
    first = token.header()
    now += 200
    assert token.header() == first
    now += 60  # 40 s before its end
    assert token.header() != first
    assert [a.path for a in server.asked] == ["/api/token/refresh"] * 2
    assert server.asked[0].body == {"refresh": jwt("refresh")}
    assert server.asked[0].authorization is None


def test_an_access_token_that_is_refused_is_renewed_once(server: Server) -> None:
    server.answer = exchange(server)
    with Studio(server.url, jwt("refresh")) as studio:
        assert studio.project(7) == {"id": 7}
        StudioToken(server.url, jwt("refresh")).header()  # somebody else's exchange outdates ours
        assert studio.update_project(7, title="x") == {"id": 7}
        server.answer = lambda asked: exchange(server)(asked) if "refresh" in asked.path else (401, {})
        before = len(server.asked)
        with pytest.raises(StudioError, match="does not know this token"):
            studio.project(7)
        assert len(server.asked) == before + 3


def test_predictions_go_in_pieces_bounded_in_number_and_size(server: Server, studio: Studio) -> None:
    server.answer = lambda asked: (201, {"created": len(asked.body)})
    small = [{"task": i, "result": []} for i in range(1001)]
    assert studio.import_predictions(7, small) == 1001
    assert [len(a.body) for a in server.asked] == [500, 500, 1]
    server.asked.clear()
    large = [{"task": i, "result": ["x" * 3 * 2**20]} for i in range(5)]
    assert studio.import_predictions(7, large) == 5
    assert [len(a.body) for a in server.asked] == [2, 2, 1]
    assert [p["task"] for a in server.asked for p in a.body] == list(range(5))


def test_one_lost_task_costs_no_other_its_prediction(server: Server, studio: Studio) -> None:
    stored: list[int] = []

    def answer(asked: Asked) -> Answer:
        tasks = [p["task"] for p in asked.body]
        if 13 in tasks:
            return 400, {"detail": f'{"x" * 5000} contains invalid "task" field: no task 13'}
        stored.extend(tasks)
        return 201, {"created": len(tasks)}

    server.answer = answer
    assert studio.import_predictions(7, [{"task": i, "result": []} for i in range(40)]) == 39
    assert stored == [i for i in range(40) if i != 13]


def test_an_error_survives_being_stored(server: Server, studio: Studio) -> None:
    server.queue((403, {"detail": "no"}))
    with pytest.raises(StudioError) as told:
        studio.project(7)
    again = pickle.loads(pickle.dumps(told.value))
    assert (str(again), again.status, again.detail) == (str(told.value), 403, "no")
