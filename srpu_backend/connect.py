"""`python -m srpu_backend connect`: tie this backend to a Label Studio project, and say what is wrong.

May be run again at any time: what is right already is left as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import requests
from pydantic import SecretStr

from model_zoo.errors import SRPUError
from srpu_backend.auth import SECRET_HEADER
from srpu_backend.label_config import LabelConfig
from srpu_backend.projects import Projects
from srpu_backend.secrets import webhook_secret
from srpu_backend.settings import Settings
from srpu_backend.studio import Studio, StudioError

BACKEND_TITLE = "SRPU"
_HEALTH_TIMEOUT = 5.0
_BLOCKED = "reserved network address"
_SWITCHES = """\
Since 1.23.1 Label Studio refuses addresses of the same machine, of Docker and of private networks.
Start Label Studio with these two variables, then run this command again:
    ML_BLOCK_LOCAL_IP=false
    SSRF_PROTECTION_ENABLED=false
Safer, for it keeps the protection and opens only what is not listed:
    USE_DEFAULT_BANNED_SUBNETS=false
    USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16      (and every network that must stay closed)"""


class CannotConnect(SRPUError):
    """The project could not be connected; the message says what to mend."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    kind: Literal["done", "note", "problem"]
    text: str
    """A sentence, and for a problem how to mend it."""


@dataclass
class ConnectReport:
    """What `connect` did and found."""

    project: int
    url: str
    """The project's page."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when nothing needs mending."""
        return all(finding.kind != "problem" for finding in self.findings)

    def add(self, kind: Literal["done", "note", "problem"], text: str) -> None:
        """Append a finding."""
        self.findings.append(Finding(kind, text))

    def as_text(self) -> str:
        """Plain words for a terminal."""
        marks = {"done": "✓", "note": "·", "problem": "✗"}
        lines = [f"{marks[f.kind]} {f.text}".replace("\n", "\n  ") for f in self.findings]
        end = (
            f"Connected: label at {self.url}"
            if self.ok
            else "Not everything works yet: mend what is marked ✗ and run this command again."
        )
        return "\n".join([*lines, end])


def connect(
    settings: Settings,
    *,
    studio_url: str,
    token: str,
    backend_url: str,
    project: int | None = None,
    create: str = "",
    label_config: str = "",
) -> ConnectReport:
    """Tie the backend at `backend_url` to a project, and remember the project for backend and trainer.

    Args:
        settings: MODEL_DIR, credentials and webhook secret of the backend.
        studio_url: Label Studio, as seen from this machine.
        token: a legacy token or a personal access token.
        backend_url: this backend, as seen from Label Studio.
        project: number of the project; None makes one, or takes the one that is titled `create`.
        create: title of the project.
        label_config: XML of the project to make.

    Raises:
        CannotConnect: Label Studio refuses the backend.
        StudioError: Label Studio cannot be reached, or refuses the token or the project.
        BadLabelConfig: the project's label config cannot be served.
    """
    with Studio(studio_url, token) as studio:
        email = studio.user().get("email", "")
        described = _found_or_made(studio, project, create, label_config)
        id = int(described["id"])
        report = ConnectReport(id, f"{studio.url}/projects/{id}/data")
        report.add("done", f"Label Studio {studio.version()} at {studio.url} knows the token of {email}.")
        report.add("done", _served_classes(described))
        connector = _Connector(studio, settings, id, backend_url.rstrip("/"), report)
        connector.look_at_backend()
        connector.remember(described, token)
        connector.register_backend()
        connector.mend_webhooks()
        connector.show_predictions(described)
        return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `connect`."""
    parser.description = "Connect this backend to a Label Studio project; may be run again at any time."
    parser.add_argument("--url", default="", help="Label Studio's address (default: LABEL_STUDIO_URL)")
    parser.add_argument(
        "--token", default="", help="legacy or personal access token (default: LABEL_STUDIO_API_KEY)"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--project", type=int, metavar="N", help="number of the project")
    which.add_argument(
        "--create", default="", metavar="TITLE", help="make a project, or take the one so titled"
    )
    parser.add_argument(
        "--label-config", type=Path, metavar="FILE", help="labelling interface (XML) of the project to make"
    )
    parser.add_argument(
        "--backend", default="", metavar="URL", help="this backend as seen from Label Studio (default: here)"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Connect, and print what was done and found; 0 when nothing needs mending."""
    report = connect(
        settings,
        studio_url=required(args.url or settings.label_studio_url, "--url", "LABEL_STUDIO_URL"),
        token=required(
            args.token or settings.label_studio_api_key.get_secret_value(), "--token", "LABEL_STUDIO_API_KEY"
        ),
        backend_url=args.backend or default_backend_url(settings),
        project=args.project,
        create=args.create,
        label_config=_read(args.label_config) if args.label_config else "",
    )
    sys.stdout.write(f"{report.as_text()}\n")
    return 0 if report.ok else 1


def required(value: str, option: str, variable: str) -> str:
    """`value`; raises `CannotConnect` naming the option and the variable when it is empty."""
    if not value:
        raise CannotConnect(f"Give {option}, or set {variable}.")
    return value


def default_backend_url(settings: Settings) -> str:
    """The backend of these settings, as seen from this machine."""
    host = "127.0.0.1" if settings.host in ("", "0.0.0.0", "::") else settings.host  # noqa: S104
    return f"http://{host}:{settings.port}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotConnect(f"The label config {path} cannot be read: {error}.") from None


def _found_or_made(studio: Studio, id: int | None, title: str, label_config: str) -> dict[str, Any]:
    if id is not None:
        return studio.project(id)
    known = studio.projects_titled(title)
    if len(known) > 1:
        numbers = ", ".join(map(str, known))
        raise CannotConnect(
            f"{len(known)} projects are titled {title!r}: say with --project which ({numbers})."
        )
    if known:
        return studio.project(known[0])
    if not label_config:
        raise CannotConnect(f"To make the project {title!r}, give its interface with --label-config FILE.")
    LabelConfig.parse(label_config)
    return studio.create_project(title, label_config)


def _served_classes(described: Mapping[str, Any]) -> str:
    config = LabelConfig.parse(str(described.get("label_config", "")))
    names = ", ".join(info.name for info in config.classes if not info.implicit)
    return f"Project {described['id']} ({described.get('title', '')}) labels {names}."


class _Connector:
    """One project and one backend; `url` is without a slash at its end."""

    def __init__(self, studio: Studio, settings: Settings, id: int, url: str, report: ConnectReport) -> None:
        self._studio, self._settings, self._id, self._url, self._report = studio, settings, id, url, report

    def look_at_backend(self) -> None:
        """From here. Label Studio may sit elsewhere and see what we don't, so silence stops nothing."""
        try:
            answer = requests.get(f"{self._url}/health", auth=self._credentials(), timeout=_HEALTH_TIMEOUT)
        except requests.RequestException:
            self._report.add(
                "note",
                f"The backend does not answer at {self._url} as seen from this machine, which is right only "
                "if that is its address as seen from Label Studio.",
            )
            return
        if answer.status_code == requests.codes.unauthorized:
            raise CannotConnect(_other_password(self._url))
        if not answer.ok:
            raise CannotConnect(
                f"The backend at {self._url} is not well (it answered {answer.status_code}): see its log."
            )
        self._report.add("done", f"The backend answers at {self._url}.")

    def remember(self, described: Mapping[str, Any], token: str) -> None:
        """So that the trainer knows the project at once, by an address and a token that work from here."""
        Projects.of(self._settings).remember(
            self._id,
            title=str(described.get("title", "")),
            url=self._studio.url,
            token=SecretStr(token),
            label_config=str(described.get("label_config", "")),
            verified=True,
        )

    def register_backend(self) -> None:
        """Make Label Studio ask the backend; one that is connected already is brought up to date."""
        before = self._studio.ml_backends(self._id)
        fields = {
            "url": self._url,
            "title": BACKEND_TITLE,
            "is_interactive": True,  # smart tools ask it too
            **self._auth_fields(),
        }
        with _refusals_explained(self._url):
            if known := self._ours(before):
                self._studio.update_ml_backend(int(known[0]["id"]), project=self._id, **fields)
            else:
                self._create_backend(fields)
        self._report.add("done", f"Label Studio asks the backend at {self._url} for predictions.")
        if before and not self._ours(before[:1]):
            self._report.add(
                "problem",
                f"Another backend ({before[0]['url']}) was connected before, and Label Studio asks only the "
                "first: remove it under Settings → Model.",
            )

    def _create_backend(self, fields: Mapping[str, Any]) -> None:
        """With ML_BLOCK_LOCAL_IP alone switched off, Label Studio answers 403 and connects all the same."""
        try:
            self._studio.create_ml_backend(self._id, **fields)
        except StudioError as error:
            if _BLOCKED not in error.detail or not self._ours(self._studio.ml_backends(self._id)):
                raise

    def _ours(self, backends: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [backend for backend in backends if str(backend["url"]).rstrip("/") == self._url]

    def mend_webhooks(self) -> None:
        """Exactly one webhook, for every event, with the secret.

        Label Studio makes one when a backend is connected, without a header, and leaves it when the backend
        is removed.
        """
        url = f"{self._url}/webhook"
        wanted = {"is_active": True, "send_payload": True, "send_for_all_actions": True}
        secret = {SECRET_HEADER: webhook_secret(self._settings)}
        found = [hook for hook in self._studio.webhooks(self._id) if str(hook["url"]).rstrip("/") == url]
        try:
            if not found:
                self._studio.create_webhook(self._id, url, secret)
            elif {**found[0], **wanted} != found[0] or (found[0].get("headers") or {}) != secret:
                self._studio.update_webhook(int(found[0]["id"]), **wanted, headers=secret)
        except StudioError as error:
            if _BLOCKED not in error.detail:
                raise
            self._report.add("problem", self._events_blocked(error.detail))
            return
        for leftover in found[1:]:
            self._studio.delete_webhook(int(leftover["id"]))
        self._report.add("done", f"Annotations are reported to {url}, with the header {SECRET_HEADER}.")

    def _events_blocked(self, reason: str) -> str:
        return (
            f"Predictions work, but Label Studio does not report annotations to {self._url} ({reason}): they "
            f"are noticed only every {self._settings.reconcile_interval:.0f} s.\n{_SWITCHES}"
        )

    def show_predictions(self, described: Mapping[str, Any]) -> None:
        """Predictions are shown to annotators, and not asked for page by page."""
        wanted = {"show_collab_predictions": True, "evaluate_predictions_automatically": False}
        if any(described.get(name) != value for name, value in wanted.items()):
            self._studio.update_project(self._id, **wanted)
        self._report.add("done", "Predictions are shown to annotators.")

    def _credentials(self) -> tuple[str, str] | None:
        user, password = self._settings.basic_auth_user, self._settings.basic_auth_pass.get_secret_value()
        return (user, password) if user or password else None

    def _auth_fields(self) -> dict[str, str]:
        credentials = self._credentials()
        if credentials is None:
            return {"auth_method": "NONE"}
        return {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": credentials[0],
            "basic_auth_pass": credentials[1],
        }


@contextmanager
def _refusals_explained(url: str) -> Iterator[None]:
    """What Label Studio answers when it cannot or will not connect a backend, in plain words."""
    try:
        yield
    except StudioError as error:
        said = error.detail
        if _BLOCKED in said:
            raise CannotConnect(f"Label Studio refuses the backend at {url} ({said}).\n{_SWITCHES}") from None
        if "authentication parameters" in said:
            raise CannotConnect(_other_password(url)) from None
        if "health check failed" in said:
            raise CannotConnect(
                f"Label Studio cannot reach the backend at {url}: start it, and give with --backend its "
                "address as seen from Label Studio (in Docker http://host.docker.internal:9090 or the "
                "service's name, with SRPU_HOST=0.0.0.0)."
            ) from None
        if "valid ML backend" in said:
            raise CannotConnect(f"The backend at {url} refused the project: {said}") from None
        raise


def _other_password(url: str) -> str:
    return (
        f"The backend at {url} asks for another user and password: give this command the same "
        "BASIC_AUTH_USER and BASIC_AUTH_PASS as the backend."
    )
