"""Logging: one line an event, the request it belongs to, and no secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TextIO

from pydantic import SecretStr

from srpu_backend.settings import Settings

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The request that is being served in this thread; `-` outside of one."""

_CREDENTIALS = re.compile(
    r"""(?ix) ( \b(?:token|bearer|basic)\s+                                    # Authorization headers
              | ["']?(?:access_token|api_key|password|refresh|token)["']?\s*[:=]\s*["']? )  # JSON, URLs
        [\w.~+/=-]{8,}"""
)
_MASK = "********"
_SHORTEST = 6
"""A shorter secret is not masked: it would blank half of every line."""


class OneLine(logging.Formatter):
    """`time level logger [request] message`, a traceback folded into the same line, secrets masked."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s [%(request)s] %(message)s")
        self._secrets = [secret for secret in secrets if len(secret) >= _SHORTEST]

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        record.request = request_id.get()
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        line = _CREDENTIALS.sub(rf"\1{_MASK}", line)
        return line.replace("\r", "\\r").replace("\n", "\\n")


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send everything to `stream` (standard error) in our form; doing it again changes nothing else."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine(_secrets_of(settings)))
    handler.set_name("srpu")
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if h.get_name() != "srpu"] + [handler]
    root.setLevel(settings.log_level)


def _secrets_of(settings: Settings) -> list[str]:
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
