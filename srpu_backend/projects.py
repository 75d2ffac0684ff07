"""What we remember of each Label Studio project: one folder a project, shared by all our processes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from model_zoo.errors import SRPUError
from model_zoo.files import locked, write_atomically
from model_zoo.registry import Registry
from srpu_backend.label_config import LabelConfig
from srpu_backend.mirror import TaskMirror
from srpu_backend.settings import Settings

log = logging.getLogger(__name__)

KEPT_PROBLEMS = 50
_PROJECT_ID = re.compile(r"\s*(\d{1,18})(?:\.\d*)?\s*")


class UnknownProject(SRPUError):
    """A project that never called /setup here."""


class BrokenProject(SRPUError):
    """A project whose `project.json` cannot be read."""


class BadProjectReference(SRPUError):
    """Something that does not name a Label Studio project."""


def parse_project_id(reference: object) -> int:
    """Project id of what Label Studio sends: 7, "7" or "7.1795332156" (id and creation time).

    Raises `BadProjectReference` for anything else.
    """
    if isinstance(reference, str | int) and not isinstance(reference, bool):
        match = _PROJECT_ID.fullmatch(str(reference))
        if match and int(match[1]) > 0:
            return int(match[1])
    raise BadProjectReference(
        f"{reference!r:.80} does not name a project: send its number, as in 7 or '7.1795332156'."
    )


@dataclass(frozen=True)
class Connection:
    """Where a project's Label Studio is, and the token it takes."""

    url: str
    """Without a slash at its end."""
    token: SecretStr
    """A legacy token or a personal access token."""


class Problem(BaseModel):
    """Something a person should know of, as `/status` shows it."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    where: str
    """What we were doing: `setup`, `predict`, `reconcile`, `train`, …"""
    message: str


class ProjectState(BaseModel):
    """What a project is doing; written by the trainer, shown by `/status`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str = "idle"
    fraction: float | None = None
    """Share of the stage that is done, in [0, 1]; None when nobody can say."""
    message: str = ""
    run: str = ""
    """Id of the running workflow."""
    labelled: int = 0
    tasks: int = 0
    last_error: str = ""
    last_reconcile: datetime | None = None
    next_reconcile: datetime | None = None
    gate: dict[str, Any] | None = None
    """The gate's last verdict."""


class _Record(BaseModel):
    """`project.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str = ""
    label_config: str = ""
    url: str = ""
    token: str = Field(default="", repr=False)
    parameters: dict[str, Any] = Field(default_factory=dict)
    verified: bool = False
    """URL and token were tried by `connect`: what Label Studio says of itself replaces neither."""


class Project:
    """One Label Studio project. The record is as it was when read; state and problems are always fresh.

    Get a new one for each request or job: another process may have remembered a new label config.
    """

    def __init__(self, id: int, root: Path, record: _Record, configured: Connection | None = None) -> None:
        self.id = id
        self.root = root
        self.title = record.title
        self.label_config_xml = record.label_config
        self.parameters = record.parameters
        self.connection = _effective_connection(record, configured)

    def __repr__(self) -> str:
        return f"Project({self.id}, {self.title!r})"

    @cached_property
    def label_config(self) -> LabelConfig:
        """The labelling interface, parsed; raises `BadLabelConfig`."""
        return LabelConfig.parse(self.label_config_xml)

    @cached_property
    def registry(self) -> Registry:
        """This project's model versions."""
        return Registry(self.root / "models")

    @cached_property
    def mirror(self) -> TaskMirror:
        """What Label Studio had when we last asked."""
        return TaskMirror(self.root / "tasks.sqlite")

    def state(self) -> ProjectState:
        """What the project is doing now; a new state when there is none or it cannot be read."""
        path = self.root / "state.json"
        try:
            return ProjectState.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return ProjectState()
        except (ValidationError, OSError) as error:
            log.warning("project %d: %s cannot be read and starts afresh: %s", self.id, path, error)
            return ProjectState()

    def update_state(self, **changes: Any) -> ProjectState:
        """Change some fields of the state, atomically among processes; raises `TypeError` on unknown ones."""
        unknown = changes.keys() - ProjectState.model_fields.keys()
        if unknown:
            raise TypeError(f"ProjectState has no {', '.join(sorted(unknown))}")
        with self._locked():
            state = ProjectState.model_validate({**self.state().model_dump(), **changes})
            write_atomically(self.root / "state.json", state.model_dump_json(indent=1).encode())
        return state

    def note_problem(self, where: str, message: str) -> None:
        """Remember something a person should know of; the newest 50 are kept, a repeated one once."""
        problem = Problem(at=datetime.now(UTC), where=where, message=message)
        with self._locked():
            others = [p for p in self.problems() if (p.where, p.message) != (where, message)]
            lines = [p.model_dump_json() for p in [*others, problem][-KEPT_PROBLEMS:]]
            write_atomically(self.root / "problems.jsonl", ("\n".join(lines) + "\n").encode())

    def problems(self) -> list[Problem]:
        """The remembered problems, oldest first; lines that cannot be read are left out."""
        try:
            lines = (self.root / "problems.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return list(_readable_problems(lines))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self.root / ".lock"):
            yield


class Projects:
    """All projects in MODEL_DIR.

    `configured` is the connection of the settings: it takes the place of what projects remember. A
    connection with a URL and an empty token leaves the token to /setup.
    """

    def __init__(self, model_dir: Path, configured: Connection | None = None) -> None:
        self.root = model_dir / "projects"
        self.configured = configured

    @classmethod
    def of(cls, settings: Settings) -> Projects:
        """The projects of these settings.

        LABEL_STUDIO_API_KEY counts only together with LABEL_STUDIO_URL: otherwise whoever may call
        /setup could name the host that our key is sent to.
        """
        url = settings.label_studio_url.rstrip("/")
        configured = Connection(url, settings.label_studio_api_key) if url else None
        return cls(settings.model_dir, configured)

    def ids(self) -> list[int]:
        """Ids of the known projects, ascending."""
        found = self.root.glob("*/project.json")
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())

    def get(self, id: int) -> Project:
        """The project as it is remembered now; raises `UnknownProject`, or `BrokenProject`."""
        return self._project(id, _read_record(id, self._folder(id)))

    def remember(
        self,
        id: int,
        *,
        title: str | None = None,
        url: str | None = None,
        token: str | SecretStr | None = None,
        label_config: str | None = None,
        parameters: dict[str, Any] | None = None,
        verified: bool = False,
    ) -> Project:
        """Create the project or change what is given; what is None stays as it is.

        `verified`: a person gave `url` and `token` and they work. From then on only such a pair replaces
        them: Label Studio's /setup brings a name it knows itself by, which may lead nowhere from here, and
        the creator's legacy token, which may be switched off.

        A token belongs to the host it came with: another `url` without a token forgets the old one.
        A `project.json` that cannot be read is put aside and written anew.
        """
        secret = token.get_secret_value() if isinstance(token, SecretStr) else token
        given = {
            "title": title,
            "url": url.rstrip("/") if url is not None else None,
            "token": secret,
            "label_config": label_config,
            "parameters": parameters,
        }
        folder = self._folder(id)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            old = _read_or_put_aside(id, folder)
            changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
            if old.verified and not verified:
                changes = {name: changes[name] for name in changes.keys() - {"url", "token"}}
            elif verified:
                changes["verified"] = True
            if changes.get("url", old.url) != old.url:
                changes.setdefault("token", "")
            new = old.model_copy(update=changes)
            if new != old or not (folder / "project.json").exists():
                text = json.dumps(new.model_dump(), ensure_ascii=False, indent=1)
                write_atomically(folder / "project.json", text.encode(), mode=0o600)
        return self._project(id, new)

    def _folder(self, id: int) -> Path:
        return self.root / str(int(id))

    def _project(self, id: int, record: _Record) -> Project:
        return Project(id, self._folder(id), record, self.configured)


def _effective_connection(record: _Record, configured: Connection | None) -> Connection | None:
    stored = Connection(record.url, SecretStr(record.token)) if record.url and record.token else None
    if configured is None:
        return stored
    if configured.token.get_secret_value():
        return configured
    return replace(configured, token=SecretStr(record.token)) if record.token else None


def _read_record(id: int, folder: Path) -> _Record:
    path = folder / "project.json"
    try:
        return _Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UnknownProject(
            f"Project {id} is not connected to this backend: add the backend under Settings → Model in "
            f"Label Studio, or run `python -m srpu_backend connect --project {id}`."
        ) from None
    except (ValidationError, OSError) as error:
        log.debug("%s: %s", path, error)
        raise BrokenProject(
            f"{path} cannot be read: open the project's Model settings in Label Studio, which writes it "
            f"anew, or run `python -m srpu_backend connect --project {id}`."
        ) from None


def _read_or_put_aside(id: int, folder: Path) -> _Record:
    try:
        return _read_record(id, folder)
    except UnknownProject:
        return _Record()
    except BrokenProject:
        path = folder / "project.json"
        aside = path.with_name(f"project.json.broken-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        log.warning("%s cannot be read: kept as %s, and written anew.", path, aside.name)
        path.replace(aside)
        return _Record()


def _readable_problems(lines: list[bytes]) -> Iterator[Problem]:
    for line in lines:
        try:
            yield Problem.model_validate_json(line)
        except ValidationError:
            continue
