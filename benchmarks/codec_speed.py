"""How fast our brush codec is beside Label Studio's own: times and ratios, taken in the same run.

    python benchmarks/codec_speed.py            a table
    python benchmarks/codec_speed.py --json     the same as JSON

Each mask is encoded and decoded by both; the bytes and the pixels must agree before anything is timed. The
two are timed in turns, and the best time of each counts, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from sys import path
from typing import Any

path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from label_studio_sdk.converter import brush

from srpu_backend.regions import rle

SIZES = ((1024, 768), (2048, 1536))
WIDTHS = {"blobs": 18.0, "speckled": 1.0}
"""Standard deviation in px of the blur that makes a mask of noise."""


def masks(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Half foreground: smooth blobs as of grains, and what is as rough as a noisy threshold."""
    generator = np.random.default_rng(seed)
    for width, height in SIZES:
        for name, sigma in WIDTHS.items():
            noise = generator.random((height, width)).astype(np.float32)
            smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
            yield f"{width}x{height} {name}", smooth > np.median(smooth)


def best_of(repeats: int, *calls: Callable[[], Any]) -> list[float]:
    """Shortest time of each call in ms; the calls take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [min(taken) for taken in times]


def measured(name: str, mask: np.ndarray, repeats: int) -> dict[str, Any]:
    """One row: what both codecs take for a mask."""
    of_the_sdk = mask.astype(np.uint8) * 255
    stream = rle.encode(mask)
    if stream != brush.mask2rle(of_the_sdk):
        raise SystemExit(f"{name}: the bytes differ from the SDK's")
    if not np.array_equal(rle.decode(stream, mask.shape), brush.decode_rle(stream)[3::4].reshape(mask.shape)):
        raise SystemExit(f"{name}: the pixels differ from the SDK's")
    encode = best_of(repeats, lambda: rle.encode(mask), lambda: brush.mask2rle(of_the_sdk))
    decode = best_of(repeats, lambda: rle.decode(stream, mask.shape), lambda: brush.decode_rle(stream))
    return {
        "mask": name,
        "bytes": len(stream),
        "encode_ms": encode[0],
        "sdk_encode_ms": encode[1],
        "encode_ratio": encode[1] / encode[0],
        "decode_ms": decode[0],
        "sdk_decode_ms": decode[1],
        "decode_ratio": decode[1] / decode[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = [measured(name, mask, arguments.repeats) for name, mask in masks(arguments.seed)]
    worst = min(min(row["encode_ratio"], row["decode_ratio"]) for row in rows)
    if arguments.json:
        print(json.dumps({"rows": rows, "worst_ratio": worst, "python": platform.python_version()}, indent=1))
        return
    print(f"{'mask':22}{'bytes':>9}  {'encode ours / SDK':>27}  {'decode ours / SDK':>27}")
    for row in rows:
        encode = f"{row['encode_ms']:.1f} / {row['sdk_encode_ms']:.0f} ms ×{row['encode_ratio']:.0f}"
        decode = f"{row['decode_ms']:.1f} / {row['sdk_decode_ms']:.0f} ms ×{row['decode_ratio']:.0f}"
        print(f"{row['mask']:22}{row['bytes']:9}  {encode:>27}  {decode:>27}")
    print(f"at least ×{worst:.0f}")


if __name__ == "__main__":
    main()
