"""Indexing and measuring in constant memory; `benchmarks/index_memory.py` does it with 100 000 images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.slow

INDEX_MANY = """
import resource, sys
from pathlib import Path
from training.data.findings import Findings
from training.data.index import IndexOptions, build_index
from training.data.manifest_stream import read_samples
from training.data.scan import Folders
from training.data.statistics import measure
raw, out = Path(sys.argv[1]), Path(sys.argv[2])
build_index(Folders(raw), None, out, IndexOptions(input_depth=3), Findings())
measure(read_samples(out / "master_unlabeled_dataset.json"), (), "pool", Findings())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """MiB at the peak, of 500 and of 8000 small images."""

    def peak(count: int) -> int:
        rng = np.random.default_rng(0)
        raw = tmp_path / f"raw{count}"
        raw.mkdir()
        for number in range(count):
            pixels = cv2.imencode(".png", rng.integers(0, 255, (16, 16), np.uint8))[1].tobytes()
            (raw / f"film{number // 100}-{number % 100:03d}.png").write_bytes(pixels)
        command = [sys.executable, "-c", INDEX_MANY, str(raw), str(tmp_path / f"out{count}")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    few, many = peak(500), peak(8000)
    assert many - few < 40
