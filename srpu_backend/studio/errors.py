"""What goes wrong with Label Studio, in sentences that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from model_zoo.errors import SRPUError

_SHOWN_CHARACTERS = 200
"""At either end of what Label Studio says: it may quote a whole prediction, and the reason comes last."""


class StudioError(SRPUError):
    """Label Studio could not be reached, or refused; the message says what to do."""

    def __init__(self, message: str, status: int | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of its answer; None when there was none."""
        self.detail = detail
        """What it said itself."""


@contextmanager
def failures_told(url: str) -> Iterator[None]:
    """Turns what `requests` raises into a `StudioError`."""
    try:
        yield
    except requests.RequestException as error:
        raise StudioError(_no_answer(url, error)) from error


def refusal(answer: requests.Response, url: str, doing: str) -> StudioError:
    """The error for an answer that is no success; `doing` names what was asked for, as in "project 7"."""
    status, said = answer.status_code, detail(answer)
    return StudioError(_sentence(status, said, f"Label Studio at {url}", doing), status, said)


def parsed(answer: requests.Response, url: str, doing: str) -> Any:
    """The answer's JSON; raises `StudioError` when it is none, as of a proxy's login page."""
    try:
        return answer.json()
    except requests.exceptions.JSONDecodeError:
        raise StudioError(
            f"{url} answered no JSON when asked for {doing}: is it the address of a Label Studio, and does "
            "no proxy ask for a login?",
            answer.status_code,
        ) from None


def detail(answer: requests.Response) -> str:
    """What Label Studio says is wrong, in one line."""
    try:
        said = answer.json()
    except requests.exceptions.JSONDecodeError:
        said = answer.reason or "no reason given"
    if isinstance(said, dict):
        said = said.get("validation_errors") or said.get("detail") or said
    line = " ".join(_flat(said).split())
    if len(line) <= 2 * _SHOWN_CHARACTERS:
        return line
    return f"{line[:_SHOWN_CHARACTERS]} … {line[-_SHOWN_CHARACTERS:]}"


def _sentence(status: int, said: str, where: str, doing: str) -> str:
    match status:
        case 400:
            return f"{where} does not accept {doing}: {said}"
        case 401 if "legacy token" in said:
            return (
                f"{where} has legacy tokens switched off: use a personal access token (Account & Settings → "
                "Personal Access Token), or switch them on (Organization → API Tokens Settings)."
            )
        case 401:
            return f"{where} does not know this token ({said}): copy it anew from Account & Settings there."
        case 403:
            return f"{where} forbids {doing} ({said}): use the token of a user who may do that."
        case 404:
            return f"{where} has no {doing}: it was deleted, or this token's user may not see it."
        case 413:
            return f"{where}, or a proxy before it, finds {doing} too large: raise its limit on bodies."
        case _:
            return f"{where} failed at {doing} ({status}: {said}); its own log says why."


def _no_answer(url: str, error: requests.RequestException) -> str:
    where = f"Label Studio at {url}"
    if isinstance(error, requests.exceptions.SSLError):
        return f"{where} shows a TLS certificate that this machine does not trust: {error}."
    if isinstance(error, requests.ReadTimeout) or "Read timed out" in str(error):
        return f"{where} did not answer in time: it may be overloaded; try again, and look at its log."
    if isinstance(error, requests.ConnectionError):
        return f"{where} cannot be reached: is it running, and is that its address as seen from this machine?"
    return f"{where} could not be asked: {error}."


def _flat(said: Any) -> str:
    if isinstance(said, dict):
        return "; ".join(
            _flat(value) if name == "non_field_errors" else f"{name}: {_flat(value)}"
            for name, value in said.items()
        )
    if isinstance(said, list):
        return "; ".join(map(_flat, said))
    return str(said)
