"""Is this container well? The backend answers /health; the trainer's heartbeat is young. Exit code 0 or 1."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from pathlib import Path

OLDEST_HEARTBEAT = 120  # seconds


def backend_is_well(port: str) -> bool:
    """It answers within the time that Label Studio would wait."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=3) as answer:
        return bool(answer.status == 200)


def trainer_is_well(model_dir: Path) -> bool:
    """Its heartbeat is young."""
    path = model_dir / "worker.json"
    json.loads(path.read_text(encoding="utf-8"))
    return time.time() - path.stat().st_mtime < OLDEST_HEARTBEAT


def main() -> int:
    """`SRPU_ROLE=trainer` asks for the heartbeat, anything else for /health."""
    try:
        if os.environ.get("SRPU_ROLE") == "trainer":
            well = trainer_is_well(Path(os.environ.get("MODEL_DIR", "/data")))
        else:
            well = backend_is_well(os.environ.get("PORT", "9090"))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
