"""How many clicks a region takes, and how long a click: smart tools on real and simulated micrographs.

    python benchmarks/interactive_clicks.py                     a table
    python benchmarks/interactive_clicks.py --json              the same as JSON
    python benchmarks/interactive_clicks.py --sets nasa_super   some of the sets alone
    python benchmarks/interactive_clicks.py --noisy-model       with class probabilities beside the image

Objects are connected components of the true masks (no background, at least 80 px, at most 40 % of the image),
drawn by a fixed seed. People are simulated after Sofiiuk, Petrov and Konushin 2021 (RITM, arXiv 2102.06583):
each click lies at the innermost point of the largest error. NoC@85 is the mean number of clicks until the IoU
is 85 %, objects that never reach it counting as `--clicks`. Real sets are read from `../shared/data` and left
out where that is missing; nothing was fitted to their test parts.

`--noisy-model` stands in for a champion whose class IoU is about 0.8: the true class, its outline shifted by
smooth noise and blurred. It shows how probabilities are used, not what a certain model reaches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from sys import path

path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from srpu_backend.interactive import Click, ImageState, Prompts, segment
from training.data.masks import read_mask
from training.data.micrograph import read_micrograph
from training.simulator import SimulatorConfig, simulate

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = ("nasa_super", "dtsegnet", "nanocomposite", "tem_sintering", "axon_sem")
SMALLEST, LARGEST_SHARE = 80, 0.4
IGNORE = 255


@dataclass(frozen=True)
class Image:
    """A micrograph and what is true of it."""

    pixels: np.ndarray
    mask: np.ndarray
    classes: int


@dataclass
class Measured:
    """What was seen on one set."""

    ious: list[list[float]] = field(default_factory=list)
    """Of each object, after each click."""
    look_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    later_ms: list[float] = field(default_factory=list)

    def row(self, clicks: int) -> dict[str, float]:
        ious = np.array(self.ious)
        row = {"objects": float(len(ious))}
        row |= {f"iou@{k}": float(ious[:, k - 1].mean()) for k in (1, 2, 3, 5) if k <= clicks}
        for wanted in (0.85, 0.90):
            reached = ious >= wanted
            needed = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, clicks)
            row[f"noc@{wanted:.0%}"] = float(needed.mean())
        for name in ("look_ms", "first_ms", "later_ms"):
            row[name] = float(np.median(getattr(self, name)))
        return row


def real(name: str, part: str, count: int) -> Iterator[Image]:
    """Images of a shared set."""
    folder = DATA / name
    about = json.loads((folder / "classes.json").read_text())
    splits = json.loads((folder / "splits.json").read_text())
    stems = splits[about.get("default_split") or next(iter(splits))][part]
    for stem in stems[:count]:
        mask = read_mask(folder / "masks" / f"{stem}.png")
        yield Image(read_micrograph(folder / "images" / f"{stem}.png"), mask, len(about["classes"]))


def simulated(count: int) -> Iterator[Image]:
    """Particles and pores of 1024 × 768 px."""
    for seed in range(count):
        scene = simulate(SimulatorConfig(size=(768, 1024)), seed)
        yield Image(scene.image, scene.mask, len(scene.classes))


def objects(image: Image, count: int, generator: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Class and pixels of some components."""
    found = []
    for index in range(1, image.classes):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            (image.mask == index).astype(np.uint8), connectivity=4
        )
        areas = stats[:, cv2.CC_STAT_AREA]
        fitting = np.flatnonzero((areas >= SMALLEST) & (areas <= LARGEST_SHARE * image.mask.size))
        found += [(index, labels == i) for i in fitting if i != 0]
    return [found[i] for i in generator.permutation(len(found))[:count]]


def next_click(found: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> Click:
    """The innermost point of the largest error."""
    errors = (truth & ~found & valid, ~truth & found & valid)
    depths = [
        cv2.distanceTransform(np.pad(e, 1).astype(np.uint8), cv2.DIST_L2, 0)[1:-1, 1:-1] for e in errors
    ]
    worst = int(depths[1].max() > depths[0].max())
    y, x = np.unravel_index(int(depths[worst].argmax()), truth.shape)
    return Click(int(x), int(y), worst == 0)


def noisy_model(image: Image, generator: np.random.Generator) -> np.ndarray:
    """Probabilities (C, H, W) of a model with the right idea and wrong outlines."""
    noise = cv2.GaussianBlur(generator.normal(size=image.mask.shape).astype(np.float32), (0, 0), 6)
    noise *= 0.35 / float(noise.std())
    planes = []
    for index in range(image.classes):
        soft = cv2.GaussianBlur((image.mask == index).astype(np.float32), (0, 0), 3)
        planes.append(np.exp(4 * (soft + noise * (1 if index else -1))))
    stacked = np.stack(planes)
    return stacked / stacked.sum(axis=0)


def measure(images: Iterator[Image], clicks: int, per_image: int, with_model: bool) -> Measured:
    generator = np.random.default_rng(0)
    seen = Measured()
    for image in images:
        chosen = objects(image, per_image, generator)
        probabilities = noisy_model(image, generator) if with_model else None
        began = time.perf_counter()
        state = ImageState.of(image.pixels, probabilities)
        seen.look_ms.append(1e3 * (time.perf_counter() - began))
        for index, truth in chosen:
            seen.ious.append(click_on(state, truth, image.mask != IGNORE, index, clicks, seen))
    return seen


def click_on(
    state: ImageState, truth: np.ndarray, valid: np.ndarray, index: int, clicks: int, seen: Measured
) -> list[float]:
    """IoU after each click; after 97 % people stop."""
    found, made, ious = np.zeros_like(truth), (), []
    for number in range(clicks):
        made = (*made, next_click(found, truth, valid))
        began = time.perf_counter()
        found = segment(state, Prompts(made), class_index=index).mask > 0
        (seen.later_ms if number else seen.first_ms).append(1e3 * (time.perf_counter() - began))
        both, either = (found & truth & valid).sum(), ((found | truth) & valid).sum()
        ious.append(float(both / either))
        if ious[-1] > 0.97:
            return ious + [ious[-1]] * (clicks - len(ious))
    return ious


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="*", default=["simulated", *SETS], choices=["simulated", *SETS])
    parser.add_argument("--part", default="test", choices=["train", "test"])
    parser.add_argument("--images", type=int, default=4, help="at most, of each set")
    parser.add_argument("--objects", type=int, default=5, help="at most, of each image")
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--noisy-model", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    rows = {}
    for name in asked.sets:
        if name != "simulated" and not (DATA / name).is_dir():
            print(f"{name}: left out, {DATA / name} does not exist")
            continue
        images = simulated(asked.images) if name == "simulated" else real(name, asked.part, asked.images)
        seen = measure(images, asked.clicks, asked.objects, asked.noisy_model)
        if not seen.ious:
            continue
        rows[name] = seen.row(asked.clicks)
        if not asked.json:
            print(f"{name:14s} " + "  ".join(f"{k} {v:.2f}" for k, v in rows[name].items()), flush=True)
    if asked.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
