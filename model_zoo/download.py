"""A file from the web: once, whole, bounded, and given up within seconds where there is no network."""

from __future__ import annotations

import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from model_zoo.errors import WeightsUnavailable
from model_zoo.files import atomic_file

WAIT = 3.0  # seconds for a server to answer at all
_STALLED = 30.0  # seconds without a byte
_CHUNK = 1 << 20


def why_unreachable(url: str, who: str) -> str | None:
    """One question to the server; in a thread, because name resolution knows no timeout."""
    problems: list[str | None] = [f"{who} did not answer within {WAIT:.0f} s"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (our own addresses)
        try:
            with urllib.request.urlopen(request, timeout=WAIT):  # noqa: S310
                problems.append(None)
        except urllib.error.HTTPError as error:
            problems.append(f"{who} answered {error.code}")
        except (OSError, HTTPException) as error:
            problems.append(f"{who} cannot be reached ({getattr(error, 'reason', error)})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(WAIT + 1)
    return problems[-1]


def download(url: str, path: Path, most: int, check: Callable[[Path], object]) -> None:
    """Write `url` to `path`, atomically; `check` is called with the file before it gets its name.

    Raises `WeightsUnavailable` when the server refuses, stalls, sends more than `most` bytes or fewer
    than it announced; then there is no file. A bar shows how far it is where somebody watches.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(url, timeout=_STALLED) as answer, atomic_file(path) as file:  # noqa: S310
            announced = int(answer.headers.get("Content-Length") or 0)
            _bounded(announced, most, url)
            with tqdm(total=announced or None, unit="B", unit_scale=True, **_bar(path)) as bar:
                written = 0
                while chunk := answer.read(_CHUNK):
                    written += len(chunk)
                    _bounded(written, most, url)
                    file.write(chunk)
                    bar.update(len(chunk))
            if written < announced:
                raise WeightsUnavailable(f"{url} ended after {written} of {announced} bytes; try again")
            file.flush()
            check(Path(file.name))
    except urllib.error.HTTPError as error:
        raise WeightsUnavailable(f"{url} answered {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsUnavailable(f"{url} could not be downloaded ({error})") from None


def _bounded(size: int, most: int, url: str) -> None:
    if size > most:
        raise WeightsUnavailable(f"{url} is larger than {most // 2**20} MiB, which no encoder's weights are")


def _bar(path: Path) -> dict[str, object]:
    return {"desc": path.name, "leave": False, "disable": not sys.stderr.isatty()}
