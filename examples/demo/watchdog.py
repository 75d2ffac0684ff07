"""Ends the demo's children when the demo itself is killed and can't do it any more.

`python -m examples.demo.watchdog` reads lines from its standard input: `+123` to watch process group
123, `-123` to forget it. When the input closes, because the demo ended in whatever way, it kills the
groups that it still watches. Killed groups cannot be brought back: a group is forgotten before it is
waited for, so that its number is never used for somebody else's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

ROOT = Path(__file__).resolve().parents[2]


class Watchdog:
    """The demo's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo.watchdog"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C must not reach it
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """Kill `group` when we are gone."""
        self._say(f"+{group}")

    def forget(self, group: int) -> None:
        """`group` has been ended by us."""
        self._say(f"-{group}")

    def close(self) -> None:
        """Let it kill what is left and end; returns when it has."""
        with suppress(BrokenPipeError):
            self._input.close()
        self._process.wait()

    @property
    def _input(self) -> IO[str]:
        return cast(IO[str], self._process.stdin)

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):
            self._input.write(line + "\n")
            self._input.flush()


def watch(lines: Iterable[str]) -> set[int]:
    """Follow `lines` to their end; returns the groups that were never forgotten."""
    groups: set[int] = set()
    for line in lines:
        sign, number = line[:1], line[1:].strip()
        if sign == "+" and number.isdecimal() and int(number) > 1:
            groups.add(int(number))
        elif sign == "-" and number.isdecimal():
            groups.discard(int(number))
    return groups


def main() -> None:
    """Watch standard input, then kill."""
    for group in watch(sys.stdin):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
