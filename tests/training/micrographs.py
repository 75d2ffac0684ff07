"""Small images with masks on disk, for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from model_zoo.card import ClassInfo
from training.data.manifest import Manifest, Part, Sample
from training.data.masks import write_mask

CLASSES = (ClassInfo(name="matrix"), ClassInfo(name="particle"), ClassInfo(name="pore"))


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Grey uint8 (H, W) with bright particles and dark pores, and its truth."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(size, dtype=np.uint8)
    for index, radius in ((1, 9), (1, 7), (1, 6), (2, 5), (2, 4)):
        centre = int(rng.integers(size[1])), int(rng.integers(size[0]))
        cv2.circle(truth, centre, radius, index, thickness=-1)
    levels = np.array([110, 190, 40], dtype=float)
    image = levels[truth] + rng.normal(0, 6, size)
    return np.clip(image, 0, 255).astype(np.uint8), truth


def write_sample(
    folder: Path, key: str, image: np.ndarray, truth: np.ndarray | None, part: Part = "train"
) -> Sample:
    """Write both and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    path, mask = folder / f"{key}.png", folder / f"{key}-mask.png"
    assert cv2.imwrite(str(path), image)
    if truth is not None:
        write_mask(mask, truth, CLASSES)
    return Sample(key=key, image=path, mask=None if truth is None else mask, group=key, part=part)


def write_manifest(folder: Path, parts: Sequence[Part] = ("train", "train", "train", "holdout")) -> Manifest:
    """A manifest of pictures, one for each part; also written to `folder/manifest.json`."""
    samples = [
        write_sample(folder, f"task-{number}", *picture(number), part) for number, part in enumerate(parts)
    ]
    manifest = Manifest(classes=CLASSES, samples=tuple(samples))
    manifest.write(folder / "manifest.json")
    return manifest
