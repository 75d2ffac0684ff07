"""Bring an image over HTTP: bounded in bytes and in time, every redirect checked, the token kept at home."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import requests
import urllib3
from requests.auth import AuthBase

from srpu_backend.images.references import (
    ImageUnavailable,
    Origin,
    Permissions,
    Remote,
    Unreachable,
    is_media,
    origin_of,
    redirected,
    shown,
)
from srpu_backend.projects import Connection
from srpu_backend.studio import StudioError

_MAX_HOPS = 5
_CHUNK = 2**18
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Validators:
    """What a server gave us to ask later whether its image has changed."""

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """Of a conditional request."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True)
class Fetched:
    """What was written to the file."""

    sha256: str
    size: int
    """Bytes."""
    validators: Validators


class Authoriser(Protocol):
    """Gives the `Authorization` header for a Label Studio; see `studio_http.TokenKeeper`."""

    def __call__(self, connection: Connection, renew: bool) -> str:
        """`renew`: the last one was refused, get a fresh one if there is such a thing. `StudioError`."""
        ...


class HashedFile:
    """Writes to a file up to a number of bytes, hashing as it goes."""

    def __init__(self, file: BinaryIO, max_bytes: int, name: str) -> None:
        self._file, self._max_bytes, self._name = file, max_bytes, name
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append; raises `ImageUnavailable` beyond the bound, before writing."""
        self.check(self.size + len(data))
        self._hash.update(data)
        self._file.write(data)
        self.size += len(data)

    def check(self, size: int) -> None:
        """Raise `ImageUnavailable` when `size` bytes are more than allowed."""
        if size > self._max_bytes:
            raise ImageUnavailable(
                f"{self._name} is larger than the {self._max_bytes} bytes allowed; make it smaller or raise "
                "SRPU_MAX_IMAGE_BYTES."
            )

    def done(self, validators: Validators) -> Fetched:
        """What was written."""
        return Fetched(self._hash.hexdigest(), self.size, validators)


@dataclass(frozen=True)
class Downloader:
    """How images are asked for: as whom, for how long, how large, from where."""

    authorise: Authoriser
    allowed: Permissions
    timeout: float
    """Seconds, for each wait and for the whole."""
    max_bytes: int
    clock: Callable[[], float] = time.monotonic

    def get(
        self,
        remote: Remote,
        connection: Connection | None,
        validators: Validators,
        file: BinaryIO,
        name: str,
    ) -> Fetched | None:
        """Write the image to `file`; None when it has not changed since `validators` were given.

        Raises `ImageUnavailable`; `Unreachable` where trying again later may help.
        """
        deadline = self.clock() + self.timeout
        out = HashedFile(file, self.max_bytes, name)
        with (
            _failures_told(name, self.timeout),
            requests.Session() as session,
            self._answer(session, remote, connection, validators, name) as answer,
        ):
            if answer.status_code == 304 and validators.headers():
                return None
            _check_status(answer, remote, name)
            self._receive(answer, out, deadline, name)
        seen = Validators(answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""))
        return out.done(seen)

    def _answer(
        self,
        session: requests.Session,
        remote: Remote,
        connection: Connection | None,
        validators: Validators,
        name: str,
    ) -> requests.Response:
        """The first answer that is no redirect. Each hop is checked; none but Label Studio sees the token."""
        url, authorised = remote.url, remote.authorised
        for _ in range(_MAX_HOPS):
            answer = self._ask(session, url, connection if authorised else None, validators)
            if answer.status_code not in _REDIRECTS:
                return answer
            location = answer.headers.get("Location", "")
            answer.close()
            url, authorised = self._next_hop(remote, url, location, connection, name)
        raise ImageUnavailable(f"{name} is redirected more than {_MAX_HOPS} times; check its address.")

    def _ask(
        self,
        session: requests.Session,
        url: str,
        connection: Connection | None,
        validators: Validators,
    ) -> requests.Response:
        headers = {"Accept-Encoding": "identity", **validators.headers()}
        for renew in (False, True):
            auth = _Header(self.authorise(connection, renew) if connection else "")
            answer = session.get(
                url, headers=headers, auth=auth, timeout=self.timeout, stream=True, allow_redirects=False
            )
            if answer.status_code != 401 or connection is None or renew:
                break
            answer.close()
        return answer

    def _next_hop(
        self, remote: Remote, url: str, location: str, connection: Connection | None, name: str
    ) -> tuple[str, bool]:
        """URL of the next hop and whether it may see the token."""
        try:
            target, origin = redirected(url, location)
        except ValueError as error:
            raise ImageUnavailable(f"{name} is redirected to no address: {error}.") from None
        if remote.authorised and connection is not None and origin == origin_of(connection):
            if is_media(target, connection):
                return target, True
            raise ImageUnavailable(
                f"Label Studio sends {name} on to another page, such as its login; check that the token of "
                "this connection is valid."
            )
        vouched = remote.vouches and url == remote.url
        if vouched or origin.is_in(self.allowed.hosts) or self._stays(remote, url, origin):
            return target, False
        raise ImageUnavailable(
            f"{name} is redirected to {origin.netloc}, which is not allowed; add it to "
            "SRPU_ALLOWED_IMAGE_HOSTS if it should be."
        )

    @staticmethod
    def _stays(remote: Remote, url: str, origin: Origin) -> bool:
        """A storage that Label Studio vouched for may redirect within itself."""
        return remote.vouches and url != remote.url and Origin.of(url) == origin

    def _receive(self, answer: requests.Response, out: HashedFile, deadline: float, name: str) -> None:
        promised = answer.headers.get("Content-Length", "")
        out.check(int(promised) if promised.isdecimal() else 0)
        # read1 returns what has come, so that a server that drips cannot hold us beyond the deadline. It
        # raises when fewer bytes come than were promised.
        while data := answer.raw.read1(_CHUNK, decode_content=True):
            out.write(data)
            if self.clock() > deadline:
                raise Unreachable(f"{name} took longer than {self.timeout:g} s to arrive.")


class _Header(AuthBase):
    """Sets our header, or none. Given even when empty, for else requests would look into ~/.netrc."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value:
            request.headers["Authorization"] = self._value
        return request


def _check_status(answer: requests.Response, remote: Remote, name: str) -> None:
    status = answer.status_code
    if status == 200:
        return
    who = "Label Studio" if remote.authorised else "Its server"
    if status == 401 and remote.authorised and b"legacy token" in answer.raw.read(_CHUNK):
        raise ImageUnavailable(
            f"Label Studio does not let us read {name} (401): legacy tokens are switched off there; use a "
            "personal access token, or switch them on (Organization → API Tokens Settings)."
        )
    if status in (401, 403) and remote.authorised:
        raise ImageUnavailable(
            f"Label Studio does not let us read {name} ({status}); check that the token of this connection "
            "is valid and its user may see the project."
        )
    if status in (404, 410):
        hint = (
            "check that the file exists and that its storage belongs to the project"
            if remote.authorised
            else "check its address"
        )
        raise ImageUnavailable(f"{who} has no {name} ({status}); {hint}.")
    if status == 429 or status >= 500:
        raise Unreachable(f"{who} failed on {name} ({status}); it will be asked again.")
    raise ImageUnavailable(f"{who} refuses {name} ({status}).")


@contextmanager
def _failures_told(name: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except StudioError as error:
        kind = Unreachable if error.status is None or error.status >= 500 else ImageUnavailable
        raise kind(f"{name} cannot be fetched: {error}") from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise Unreachable(f"{name} did not arrive within {timeout:g} s.") from None
    except (requests.ConnectionError, urllib3.exceptions.ProtocolError) as error:
        raise Unreachable(
            f"The server of {name} cannot be reached or broke off ({shown(str(error))})."
        ) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
        raise ImageUnavailable(f"{name} cannot be fetched ({shown(str(error))}).") from None
