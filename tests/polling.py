"""Waiting without sleeping longer than needed, and never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What `look` finds, once it finds something; an `AssertionError` when that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing was found within {seconds:g} s")
