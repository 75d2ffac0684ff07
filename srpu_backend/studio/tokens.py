"""The two kinds of tokens that Label Studio knows, as an `Authorization` header.

A *legacy* token is sent as it is. A *personal access token* is a JWT that is only good for being exchanged
for an access token, which lasts five minutes.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from srpu_backend.projects import Connection
from srpu_backend.studio.errors import StudioError, detail, failures_told, parsed

_CONNECT_TIMEOUT = 5.0
_RENEW_AFTER = 0.8
"""Share of an access token's life after which a new one is asked for."""
_PORTS = {"http": 80, "https": 443}


class StudioToken(AuthBase):
    """Puts the `Authorization` header on requests to one Label Studio, and on no other.

    `clock` is Unix time. Safe for threads.
    """

    def __init__(
        self, url: str, token: str, timeout: float = 30.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._url, self._token, self._timeout, self._clock = url.rstrip("/"), token.strip(), timeout, clock
        self._claims = _claims(self._token)
        self._lock = threading.Lock()
        self._access, self._renew_at = "", 0.0

    @property
    def is_personal(self) -> bool:
        """Whether it is a personal access token, which must be exchanged."""
        return self._claims.get("token_type") == "refresh"

    def header(self, renew: bool = False) -> str:
        """Value of `Authorization` now; `renew`: the last one was refused. Raises `StudioError`."""
        if not self._claims:
            return f"Token {self._token}"
        if not self.is_personal:
            return f"Bearer {self._token}"
        with self._lock:
            if renew or self._clock() >= self._renew_at:
                self._exchange()
            return f"Bearer {self._access}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _same_origin(request.url or "", self._url):
            request.headers["Authorization"] = self.header()
        return request

    def _exchange(self) -> None:
        with failures_told(self._url):
            answer = requests.post(
                f"{self._url}/api/token/refresh",
                json={"refresh": self._token},
                timeout=(_CONNECT_TIMEOUT, self._timeout),
            )
        if answer.status_code in (400, 401):
            raise StudioError(
                f"Label Studio at {self._url} does not accept this personal access token "
                f"({detail(answer)}): make a new one there under Account & Settings.",
                answer.status_code,
            )
        access = str(parsed(answer, self._url, "the access token").get("access", ""))
        claims = _claims(access)
        life = float(claims.get("exp", 0)) - float(claims.get("iat", 0))
        self._access, self._renew_at = access, self._clock() + _RENEW_AFTER * max(life, 0.0)


class TokenKeeper:
    """The `Authorization` header for a connection; access tokens are shared and renewed in time."""

    def __init__(self, timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._tokens: dict[Connection, StudioToken] = {}
        self._lock = threading.Lock()

    def __call__(self, connection: Connection, renew: bool = False) -> str:
        """Header value; `renew`: the last one was refused. Raises `StudioError`."""
        with self._lock:
            if connection not in self._tokens:
                token = connection.token.get_secret_value()
                self._tokens[connection] = StudioToken(connection.url, token, self._timeout)
            token_of = self._tokens[connection]
        return token_of.header(renew)


def _same_origin(one: str, other: str) -> bool:
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _claims(token: str) -> dict[str, Any]:
    """What a JWT says of itself, unverified; empty when it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
