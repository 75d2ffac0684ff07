"""What a command of the command line consists of, and what several of them share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class Command:
    """One command: what `--help` says of it, its options, and what it does."""

    name: str
    about: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit code; raises `SRPUError` for input that cannot be used."""
    examples: str = ""
    folder: Callable[[argparse.Namespace], Path] | None = None
    """Where it leaves error.json when it fails, for whoever waits for it."""

    def add_to(self, subparsers: Any) -> None:
        """Declare it."""
        parser: argparse.ArgumentParser = subparsers.add_parser(
            self.name,
            help=self.about,
            description=f"{self.about.capitalize()}.",
            epilog=self.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(parser)
        parser.set_defaults(command=self)


class Bar:
    """A progress bar where somebody watches, nothing elsewhere; call it with (what, done, total)."""

    def __init__(self, unit: str = "images") -> None:
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self._report

    def __exit__(self, *_: object) -> None:
        self._close()

    def _report(self, what: str, done: int, total: int) -> None:
        if self._bar is None or self._bar.desc.rstrip(": ") != what:
            self._close()
            quiet = not sys.stderr.isatty()
            self._bar = tqdm(
                desc=what, total=total or None, unit=f" {self._unit}", disable=quiet, leave=False
            )
            self._bar.desc = what if quiet else self._bar.desc
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def add_json_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare `--json`."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one line of JSON")


def add_parent_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--with-parent`."""
    parser.add_argument(
        "--with-parent", action="store_true", help="end when the standard input closes (for trainers)"
    )


def percent(score: float | None) -> str:
    """0.456 → `45.6 %`."""
    return "–" if score is None else f"{100 * score:.1f} %"
