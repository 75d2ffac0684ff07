"""What this machine's processor is and can."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""x86's two, and ARM's: without them bfloat16 is emulated, and slower than float32."""


def computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; False where that cannot be told."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return not _BFLOAT16_FLAGS.isdisjoint(flags.split())


def processor_name() -> str:
    """As its maker calls it, where that can be told."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_threads() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache
def _cpuinfo(field: str, path: Path = Path("/proc/cpuinfo")) -> str:
    """A field of the first processor; empty on systems that have no such file."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return next((value.strip() for name, value in fields if name.strip() == field), "")
