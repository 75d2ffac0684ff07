"""HTTP with one Label Studio: every request has a timeout, only those that read are repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from srpu_backend.studio.errors import StudioError, failures_told, parsed, refusal
from srpu_backend.studio.tokens import StudioToken

_CONNECT_TIMEOUT = 5.0
_RETRIES = Retry(
    total=3,
    read=1,
    backoff_factor=0.3,
    status_forcelist=(502, 503, 504),
    allowed_methods=("GET",),
    raise_on_status=False,
)


class StudioSession:
    """Requests to one Label Studio; every answer that is not a success raises `StudioError`."""

    def __init__(self, url: str, token: str, timeout: float = 30.0) -> None:
        self.url = _checked(url)
        self.timeout = timeout
        self._token = StudioToken(self.url, token, timeout)
        self._session = requests.Session()
        self._session.auth = self._token  # an `auth` of our own also keeps ~/.netrc out
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def send(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        files: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Ask, and return an answer of 2xx.

        Args:
            method: of HTTP.
            path: below the URL, or an absolute URL (another host sees no token).
            doing: names what is asked for in error messages: "project 7".
            params: query.
            body: sent as JSON.
            files: sent as a form.
            timeout: seconds between two bytes; the session's when None.
            stream: leave the body unread.
        """

        def ask() -> requests.Response:
            return self._session.request(
                method,
                self._absolute(path),
                params=params,
                data=None if body is None else json.dumps(body),
                headers=None if body is None else {"Content-Type": "application/json"},
                files=files,
                timeout=(_CONNECT_TIMEOUT, timeout or self.timeout),
                stream=stream,
            )

        with failures_told(self.url):
            answer = ask()
            if answer.status_code == requests.codes.unauthorized and self._token.is_personal and not files:
                self._token.header(renew=True)  # our clock or its settings may have moved
                answer = ask()
        if not answer.ok:
            raise refusal(answer, self.url, doing)
        return answer

    def json(self, method: str, path: str, doing: str, **how: Any) -> Any:
        """As `send`; the answer's JSON, None when it has no body."""
        answer = self.send(method, path, doing, **how)
        return parsed(answer, self.url, doing) if answer.content else None

    def _absolute(self, path: str) -> str:
        return path if path.startswith(("http://", "https://")) else f"{self.url}/{path.lstrip('/')}"


def _checked(url: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StudioError(
            f"{url!r} is not the address of a Label Studio: write one such as http://127.0.0.1:8080."
        )
    return url.strip().rstrip("/")
