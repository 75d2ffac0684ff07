"""The face on the wire: Label Studio's ML backend protocol as a falcon WSGI application.

Nothing here decides anything: `service` does. Every error leaves as `{"error": one sentence}`, and the
sentence is the HTTP reason phrase too, because that is the part Label Studio shows to people.
"""

from __future__ import annotations

import logging
import threading
import time
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any

import falcon
import orjson

from model_zoo.errors import SRPUError
from srpu_backend.auth import SECRET_HEADER, Authenticator
from srpu_backend.images import ImageStore
from srpu_backend.jobs import JobClient
from srpu_backend.logs import request_id
from srpu_backend.metrics import Metrics
from srpu_backend.projects import BrokenProject, UnknownProject
from srpu_backend.secrets import SecretUnavailable, webhook_secret
from srpu_backend.service import BadRequest, QueueUnavailable, Service
from srpu_backend.settings import Settings
from srpu_backend.status import status

log = logging.getLogger(__name__)

_REASON_LENGTH = 300


class TooLarge(SRPUError):
    """A request body above SRPU_MAX_REQUEST_BYTES."""


class Busy(SRPUError):
    """As many predictions run as this process takes at once."""


_STATUS: tuple[tuple[type[SRPUError], int], ...] = (
    (UnknownProject, 404),
    (TooLarge, 413),
    (BrokenProject, 503),
    (QueueUnavailable, 503),
    (SecretUnavailable, 503),
    (Busy, 503),
    (SRPUError, 400),
)


class Health:
    """GET /health and GET /: that the process lives. Touches neither disk nor locks."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, {"status": "UP", "model_class": "SRPUModel"})


class Protocol:
    """POST /setup, /predict and /webhook, GET /versions: what Label Studio calls."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._limit = service.settings.max_request_bytes
        # The other threads stay free, so that /health and /setup are answered while all of these predict.
        self._predictions = threading.BoundedSemaphore(max(1, service.settings.threads // 2))

    def on_post_setup(self, req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, self._service.setup(_read_object(req, self._limit)))

    def on_post_predict(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self._predictions.acquire(blocking=False):
            raise Busy("The backend is predicting as much as it can; try again in a minute.")
        try:
            answer = self._service.predict(_read_object(req, self._limit))
        finally:
            self._predictions.release()
        for element in answer["results"]:
            self._metrics.add("srpu_tasks_total", outcome="failed" if "error" in element else "answered")
        _answer(resp, answer)

    def on_post_webhook(self, req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, self._service.webhook(_read_object(req, self._limit)))

    def on_get_versions(self, req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, self._service.versions(req.get_param("project")))


class Insight:
    """GET /status and /metrics: for people and for monitoring."""

    def __init__(self, settings: Settings, jobs: JobClient, metrics: Metrics) -> None:
        self._settings = settings
        self._jobs = jobs
        self._metrics = metrics

    def on_get_status(self, req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, status(self._settings, self._jobs.queue))

    def on_get_metrics(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.text = self._metrics.text()


class Door:
    """Middleware: names the request, refuses strangers, counts and logs what was answered."""

    def __init__(
        self, authenticator: Authenticator, metrics: Metrics, on_first: Callable[[], object]
    ) -> None:
        self._authenticator = authenticator
        self._metrics = metrics
        self._on_first: Callable[[], object] | None = on_first

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.context.began = time.perf_counter()
        request_id.set(uuid.uuid4().hex[:8])
        first, self._on_first = self._on_first, None
        if first is not None:  # and not when the app is made: gunicorn may fork after that
            first()
        if req.path == "/health" or self._passes(req):
            return
        raise falcon.HTTPUnauthorized(
            title="Wrong or missing credentials: enter this backend's user and password in Label Studio.",
            challenges=['Basic realm="SRPU"'],
        )

    def _passes(self, req: falcon.Request) -> bool:
        if req.path == "/webhook":
            return self._authenticator.allows_webhook(req.auth, req.get_header(SECRET_HEADER))
        return self._authenticator.allows(req.auth)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        seconds = time.perf_counter() - req.context.began
        code = str(resp.status)[:3]
        route = req.uri_template or "unknown"
        self._metrics.add("srpu_requests_total", method=req.method, route=route, status=code)
        self._metrics.add("srpu_request_seconds_total", seconds, route=route)
        quiet = route in ("/health", "/metrics") and code == "200"
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %s %.0f ms",
            req.method,
            req.path,
            code,
            seconds * 1e3,
        )
        resp.set_header("X-Request-ID", request_id.get())


def create_app(
    settings: Settings, *, service: Service | None = None, jobs: JobClient | None = None
) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI application. `service` and `jobs` are made from the settings unless given."""
    jobs = jobs or JobClient(settings)
    service = service or Service(settings, jobs, ImageStore(settings, settings.model_dir / "images"))
    metrics = Metrics()
    authenticator = Authenticator(settings, lambda: webhook_secret(settings))
    app = falcon.App(middleware=[Door(authenticator, metrics, jobs.warm_up)])
    app.req_options.strip_url_path_trailing_slash = True
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(SRPUError, _told)
    protocol, insight = Protocol(service, metrics), Insight(settings, jobs, metrics)
    for path in ("/", "/health"):
        app.add_route(path, Health())
    for name in ("setup", "predict", "webhook", "versions"):
        app.add_route(f"/{name}", protocol, suffix=name)
    for name in ("status", "metrics"):
        app.add_route(f"/{name}", insight, suffix=name)
    return app


def _read_object(req: falcon.Request, limit: int) -> dict[str, Any]:
    """The JSON object in a request's body; raises `TooLarge` or `BadRequest`."""
    length = req.content_length
    if length is None or length == 0:
        raise BadRequest("The body is empty: send a JSON object, with its Content-Length.")
    if length > limit:
        raise TooLarge(
            f"The body has {length} bytes and at most {limit} are taken; select fewer tasks at once, or "
            "raise SRPU_MAX_REQUEST_BYTES."
        )
    try:
        body = orjson.loads(req.bounded_stream.read(length))
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise BadRequest(f"The body must be a JSON object, not {type(body).__name__}.")
    return body


def _answer(resp: falcon.Response, body: dict[str, Any]) -> None:
    resp.data = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    resp.content_type = falcon.MEDIA_JSON


def _refuse(resp: falcon.Response, code: int, sentence: str) -> None:
    resp.status = f"{code} {_reason(sentence)}"
    _answer(resp, {"error": sentence})


def _reason(sentence: str) -> str:
    """The sentence as an HTTP reason phrase: printable ASCII, bounded, never empty."""
    plain = unicodedata.normalize("NFKD", sentence.translate({ord("→"): ">", ord("×"): "x", ord("…"): "..."}))
    text = "".join(c if " " <= c <= "~" else " " for c in plain.encode("ascii", "ignore").decode())
    return text[:_REASON_LENGTH].strip() or "Error"


def _told(req: falcon.Request, resp: falcon.Response, error: SRPUError, params: dict[str, Any]) -> None:
    code = next(code for kind, code in _STATUS if isinstance(error, kind))
    log.warning("%s %s: %s", req.method, req.path, error)
    _refuse(resp, code, str(error))


def _http_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    sentences = {
        404: f"There is no {req.path} here: Label Studio calls /health, /setup, /predict and /webhook.",
        405: f"{req.method} is not possible on {req.path}.",
    }
    resp.set_headers(error.headers or {})
    fallback = error.title or error.description or "The request cannot be served."
    _refuse(resp, error.status_code, sentences.get(error.status_code, fallback))


def _unexpected(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    log.error("%s %s failed", req.method, req.path, exc_info=error)
    _refuse(
        resp, 500, f"Something went wrong inside the backend; its log tells what, under [{request_id.get()}]."
    )
