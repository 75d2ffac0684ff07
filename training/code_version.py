"""Which code made a model, without asking git: a hash of the sources that decide it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@cache
def code_version() -> str:
    """Twelve hexadecimal digits of the sha256 over the sources of `model_zoo` and `training`."""
    digest = hashlib.sha256()
    for package in ("model_zoo", "training"):
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
