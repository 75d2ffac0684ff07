"""A child process that ends with whoever started it."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO

ORPHANED = 75
"""Exit code."""


def end_with_parent(stream: BinaryIO) -> None:
    """End this process at once when `stream` ends: its other end is held by the process that started us."""

    def wait() -> None:
        # Unbuffered: a thread that sleeps in a buffered read aborts the interpreter when it ends.
        while os.read(stream.fileno(), 4096):
            pass
        os._exit(ORPHANED)

    threading.Thread(target=wait, name="with-parent", daemon=True).start()
