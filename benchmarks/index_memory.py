"""Peak memory and time of indexing and measuring many images: `python benchmarks/index_memory.py 100000`.

The images are noise of 16 × 16 px in recordings of 100 frames: what is measured is what grows with their
number, not with their size.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.data.findings import Findings
from training.data.index import UNLABELED_NAME, IndexOptions, build_index
from training.data.manifest_stream import read_samples
from training.data.scan import Folders
from training.data.statistics import measure


def write_images(folder: Path, count: int) -> None:
    """`count` different images in one folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = cv2.imencode(".png", rng.integers(0, 255, (16, 16), np.uint8))[1].tobytes()
        (folder / f"film{number // 100:04d}-{number % 100:03d}.png").write_bytes(pixels)


def run(raw: Path, out: Path) -> None:
    """Index and measure, and print what it took."""
    start = time.perf_counter()
    print(f"  imported       {_peak():5.0f} MiB")
    build_index(Folders(raw), None, out, IndexOptions(input_depth=3), Findings())
    print(f"  index {time.perf_counter() - start:6.1f} s {_peak():5.0f} MiB")
    start = time.perf_counter()
    measure(read_samples(out / UNLABELED_NAME), (), "pool", Findings())
    print(f"  stats {time.perf_counter() - start:6.1f} s {_peak():5.0f} MiB")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Each count in a process of its own, for peaks are a process's."""
    if len(sys.argv) == 4 and sys.argv[1] == "--run":
        run(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    for count in [int(number) for number in sys.argv[1:]] or [1000, 10_000, 100_000]:
        with TemporaryDirectory() as folder:
            write_images(Path(folder) / "raw", count)
            print(f"{count} images", flush=True)
            command = [sys.executable, __file__, "--run", f"{folder}/raw", f"{folder}/out"]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
