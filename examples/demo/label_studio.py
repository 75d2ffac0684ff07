"""A real Label Studio of our own: one process, one data folder, reachable from this machine only.

The demo and the end-to-end tests use it. Migrating an empty database takes half a minute, so that is
done once: the migrated database is kept as a template and copied into each new data folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from model_zoo.errors import SRPUError
from model_zoo.files import locked

VERSION = "1.23.2"
ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = ROOT / ".venv-label-studio" / "bin" / "label-studio"
TEMPLATES = ROOT / ".cache" / f"label-studio-{VERSION}"
LOOPBACK = "127.0.0.1"
STOP_PATIENCE = 10.0
"""Seconds between asking Label Studio to end and ending it."""

_DATABASE = "label_studio.sqlite3"
_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT")
"""All that Label Studio sees of our environment: it also reads plain names such as HOST and PORT."""


class LabelStudioMissing(SRPUError):
    """Label Studio is not installed where we look for it."""


class LabelStudioFailed(SRPUError):
    """Label Studio did not start."""


@dataclass(frozen=True)
class Account:
    """The user that is made at the first start; its legacy token stays valid."""

    email: str = "admin@srpu.local"
    password: str = field(default="srpu-Passw0rd", repr=False)
    token: str = field(default="0123456789abcdef0123456789abcdef01234567", repr=False)

    @property
    def fingerprint(self) -> str:
        """Tells the templates of two accounts apart."""
        facts = "\n".join((self.email, self.password, self.token))
        return hashlib.sha256(facts.encode()).hexdigest()[:12]


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


class LabelStudioProcess:
    """One Label Studio; a context manager, or `start()` and `stop()`.

    Args:
        data_dir: database, uploads and log; made when missing, kept when it exists.
        port: of the loopback interface; None takes a free one.
        document_root: folder below which local-file storages may lie; None: local files are not served.
        account: who may log in; counts only for a data folder that is new.
        templates: where migrated databases are kept; None migrates in `data_dir` itself.
        environment: variables that override ours, such as `{"ML_BLOCK_LOCAL_IP": "true"}`.
        executable: the `label-studio` script of the environment that Label Studio is installed in.
        deadline: seconds that a start may take.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        document_root: Path | None = None,
        account: Account | None = None,
        templates: Path | None = TEMPLATES,
        environment: Mapping[str, str] | None = None,
        executable: Path = EXECUTABLE,
        deadline: float = 180.0,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.document_root = document_root.absolute() if document_root else None
        self.account = account or Account()
        self.executable = executable
        self.deadline = deadline
        self._templates = templates
        self._overrides = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log_path(self) -> Path:
        """Everything Label Studio says."""
        return self.data_dir / "label-studio.log"

    @property
    def pid(self) -> int | None:
        """Process id while it runs; also the id of its process group."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start and wait until it answers; raises `LabelStudioMissing` or `LabelStudioFailed`."""
        if self.pid is not None:
            return self
        self._require_executable()
        self._require_free_port()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._templates is not None and not (self.data_dir / _DATABASE).exists():
            self._copy_template(self._templates)
        self._launch()
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it and whatever it started; harmless when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """The variables Label Studio is started with.

        The two switches let it call a backend on a loopback or private address, which it refuses by
        default since 1.23.1.
        """
        variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        variables |= {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data_dir),
            "LABEL_STUDIO_HOST": self.url,
            "LABEL_STUDIO_USERNAME": self.account.email,
            "LABEL_STUDIO_PASSWORD": self.account.password,
            "LABEL_STUDIO_USER_TOKEN": self.account.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "PYTHONUNBUFFERED": "1",
        }
        if self.document_root is not None:
            variables["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] = "true"
            variables["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] = str(self.document_root)
        return variables | self._overrides

    def _require_executable(self) -> None:
        if not os.access(self.executable, os.X_OK):
            raise LabelStudioMissing(
                f"Label Studio is not installed: {self.executable} does not exist. "
                f"Run `make install-label-studio`, which installs version {VERSION} there."
            )

    def _require_free_port(self) -> None:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, self.port))
            except OSError:
                # Label Studio would quietly move to the next port
                raise LabelStudioFailed(f"Port {self.port} is in use; choose another one.") from None

    def _copy_template(self, templates: Path) -> None:
        template = self._migrated_template(templates)
        shutil.copyfile(template / ".env", self.data_dir / ".env")
        partial = self.data_dir / f"{_DATABASE}.partial"
        shutil.copyfile(template / _DATABASE, partial)
        partial.replace(self.data_dir / _DATABASE)

    def _migrated_template(self, templates: Path) -> Path:
        """A folder with a migrated database and its secret key; made once among all processes."""
        template = templates / self.account.fingerprint
        templates.mkdir(parents=True, exist_ok=True)
        with locked(templates / ".lock"):
            if not (template / _DATABASE).exists():
                self._migrate_into(template)
        return template

    def _migrate_into(self, template: Path) -> None:
        with tempfile.TemporaryDirectory(dir=template.parent, prefix=".migrating-") as folder:
            migrated = Path(folder) / "data"
            with LabelStudioProcess(
                migrated,
                account=self.account,
                templates=None,
                executable=self.executable,
                deadline=self.deadline,
            ):
                pass
            migrated.replace(template)

    def _launch(self) -> None:
        command = [str(self.executable), "start", "--no-browser"]
        command += ["--internal-host", LOOPBACK, "--port", str(self.port)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.data_dir,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: Ctrl-C is ours to handle
            )

    def _wait_until_healthy(self) -> None:
        end = time.monotonic() + self.deadline
        while time.monotonic() < end:
            if self.pid is None:
                raise LabelStudioFailed(f"Label Studio ended while starting: {self._last_words()}")
            if _is_healthy(self.url):
                return
            time.sleep(0.1)
        raise LabelStudioFailed(
            f"Label Studio did not answer within {self.deadline:.0f} s: {self._last_words()}"
        )

    def _last_words(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'it said nothing'} (see {self.log_path})"


def _is_healthy(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(urllib.error.URLError, OSError), direct.open(f"{url}/health", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
