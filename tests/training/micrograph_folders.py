"""Small folders of images and masks that tests of datasets are made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from training.data.masks import write_mask

CLASSES = (
    ClassInfo(name="matrix", color="#000000"),
    ClassInfo(name="pore", color="#ff0000"),
    ClassInfo(name="crack", color="#0000ff"),
)
SIZE = (48, 64)


def texture(seed: Any, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A grey image (H, W) like no other seed's."""
    noise = np.random.default_rng(seed).normal(0, 1, size).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    spread = np.clip(128 + 40 * smooth / smooth.std(), 0, 255)
    return spread.astype(np.uint8)


def blocks(size: tuple[int, int] = SIZE, indices: tuple[int, ...] = (0, 1, 2)) -> NDArray[np.uint8]:
    """A mask (H, W) of vertical stripes, one for each index."""
    columns = np.arange(size[1]) * len(indices) // size[1]
    return np.broadcast_to(np.array(indices, np.uint8)[columns], size).copy()


def write_image(path: Path, image: NDArray[Any]) -> Path:
    """Write a grey or RGB image; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    if not cv2.imwrite(str(path), pixels):
        raise OSError(path)
    return path


def write_labelled(folder: Path, names: list[str], indices: tuple[int, ...] = (0, 1, 2)) -> Path:
    """`images/ masks/ classes.json`, each image of its own texture."""
    for name in names:
        write_image(folder / "images" / f"{name}.png", texture([ord(letter) for letter in name]))
        path = folder / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, blocks(indices=indices), CLASSES)
    write_classes(folder / "classes.json")
    return folder


def write_classes(path: Path) -> Path:
    """`classes.json` with the classes above; white is ignored in colour masks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"index": i, "name": c.name, "color": c.color} for i, c in enumerate(CLASSES)]
    path.write_text(json.dumps({"classes": listed, "ignore_index": 255, "ignore_color": "#ffffff"}))
    return path
