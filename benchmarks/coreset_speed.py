"""k-center of 100 points, by us and by others: `python benchmarks/coreset_speed.py [--large]`.

Same machine, one run, each form in a process of its own, since peaks are a process's. Points are 384 numbers,
200 of them labelled: `clustered` lie about 200 places as images of a lab do, `isotropic` are Gaussian noise.
`--large` adds a million in float16 from a memory-mapped file, for ours and for the eager form.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.active_learning.coreset import BLOCK, blocks, k_center

WIDTH, LABELED, PICKS, PLACES = 384, 200, 100, 200
NAIVE_PICKS = 5
"""The naive form is measured on the first picks alone and extrapolated."""


def write_points(path: Path, count: int, kind: str, dtype: str) -> None:
    """`count` × 384 into a .npy file, block by block."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(PLACES, WIDTH)).astype(np.float32)
    points = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (count, WIDTH))
    for start in range(0, count, BLOCK):
        shape = (min(BLOCK, count - start), WIDTH)
        block = rng.standard_normal(shape, dtype=np.float32)
        if kind == "clustered":
            block = 0.3 * block + places[rng.integers(0, PLACES, len(block))]
        points[start : start + len(block)] = block
    points.flush()


def ours(points: NDArray[Any]) -> tuple[list[int], float]:
    """As the library does; with the distances measured for each point, on average, to choose 100."""
    cover = k_center(points, PICKS, range(LABELED))
    return cover.rows.tolist(), cover.measured / len(points) - LABELED


def eager(points: NDArray[Any]) -> tuple[list[int], float]:
    """One matrix-vector product over all points a pick: `|x|² − 2 x·c + |c|²`."""
    squares = np.concatenate([np.einsum("ij,ij->i", block, block) for _, block in blocks(points)])
    bounds = np.full(len(points), np.inf, np.float32)

    def measure(row: int) -> None:
        center = np.asarray(points[row], np.float32)
        for start, block in blocks(points, len(points) if points.dtype == np.float32 else BLOCK):
            inside = slice(start, start + len(block))
            near = squares[inside] - 2 * (block @ center) + squares[row]
            bounds[inside] = np.minimum(bounds[inside], near)

    for row in range(LABELED):
        measure(row)
    bounds[:LABELED] = -np.inf
    picks: list[int] = []
    started = time.perf_counter()
    for _ in range(PICKS):
        picks.append(int(bounds.argmax()))
        measure(picks[-1])
        bounds[picks] = -np.inf
    return picks, time.perf_counter() - started


def naive(points: NDArray[Any]) -> tuple[list[int], float]:
    """All distances to all centres at each pick, as in many a repository; the seconds a pick takes."""
    from sklearn.metrics import pairwise_distances_argmin_min

    centers = list(range(LABELED))
    started = time.perf_counter()
    for _ in range(NAIVE_PICKS):
        _, distances = pairwise_distances_argmin_min(points, points[centers])
        centers.append(int(distances.argmax()))
    return centers[LABELED:], (time.perf_counter() - started) / NAIVE_PICKS


def activeml(points: NDArray[Any]) -> tuple[list[int], float]:
    """scikit-activeml's CoreSet."""
    from skactiveml.pool import CoreSet

    labels = np.full(len(points), np.nan)
    labels[:LABELED] = 0
    picks = CoreSet(random_state=0).query(np.asarray(points), labels, batch_size=PICKS)
    return picks.tolist(), 0.0


def plain_read(points: NDArray[Any]) -> tuple[list[int], float]:
    """The sum of all numbers, as fast as numpy reads them: GB/s."""
    started = time.perf_counter()
    for start in range(0, len(points), BLOCK):
        points[start : start + BLOCK].view(np.uint64).sum()
    return [], points.nbytes / (time.perf_counter() - started) / 1e9


FORMS: dict[str, Callable[[NDArray[Any]], tuple[list[int], float]]] = {
    "plain read": plain_read,
    "ours": ours,
    "eager": eager,
    "naive": naive,
    "scikit-activeml": activeml,
}


def run_form(form: str, path: Path) -> None:
    """In the child: print seconds, MiB above what the imports took, picks, and the form's own number."""
    points = np.load(path, mmap_mode="r")
    if points.dtype == np.float32:
        points = np.array(points)
    before = _peak()
    started = time.perf_counter()
    picks, number = FORMS[form](points)
    print(json.dumps([time.perf_counter() - started, _peak() - before, picks, number]))


def report(count: int, kind: str, dtype: str, forms: list[str], folder: Path) -> None:
    """One table row for each form."""
    path = folder / "points.npy"
    write_points(path, count, kind, dtype)
    reference: list[int] = []
    for form in forms:
        command = [sys.executable, __file__, "--form", form, "--points", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, mib, picks, number = json.loads(done.stdout)
        reference = reference or picks
        same = "" if not picks else "same picks" if picks == reference[: len(picks)] else "OTHER PICKS"
        size = count * WIDTH * np.dtype(dtype).itemsize / 1e9
        more = {
            "plain read": f"{number:.1f} GB/s",
            "ours": f"{number:.2f} distances a point to choose {PICKS}; "
            f"{size * (LABELED + PICKS) / seconds:.0f} GB/s of what the eager form reads",
            "eager": f"{size * PICKS / number:.1f} GB/s, {number:.2f} s of it for the {PICKS}"
            if number
            else "",
            "naive": f"{number * PICKS:.0f} s for {PICKS}, extrapolated from {NAIVE_PICKS}",
        }.get(form, "")
        print(f"| {count} {kind} {dtype} | {form} | {seconds:.2f} s | {mib:.0f} MiB | {same} | {more} |")
        sys.stdout.flush()


def main() -> None:
    """All sizes; or one form, in a child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also a million, float16 (0.8 GB on disk)")
    parser.add_argument("--form", choices=FORMS)
    parser.add_argument("--points", type=Path)
    options = parser.parse_args()
    if options.form:
        run_form(options.form, options.points)
        return
    print(
        "| points | form | time | memory beyond the points in memory | picks | |\n|---|---|---|---|---|---|"
    )
    with TemporaryDirectory() as folder:
        for count in (10_000, 100_000):
            for kind in ("clustered", "isotropic"):
                report(count, kind, "float32", list(FORMS), Path(folder))
        if options.large:
            for kind in ("clustered", "isotropic"):
                report(1_000_000, kind, "float16", ["plain read", "ours"], Path(folder))
            report(1_000_000, "clustered", "float16", ["eager"], Path(folder))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
