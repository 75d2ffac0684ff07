"""A folder of simulated micrographs, laid out as any labelled folder is: `images/ masks/ classes.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from training.data.manifest import IGNORE_INDEX
from training.data.masks import write_mask
from training.simulator.config import SimulatorConfig
from training.simulator.simulation import Micrograph, simulate, simulate_sequence


class BadDataset(SRPUError):
    """A folder of simulated images that cannot be made as asked."""


def write_dataset(
    folder: Path,
    count: int,
    seed: int,
    size: tuple[int, int] = (512, 512),
    *,
    sequences: int = 0,
    frames: int = 4,
    config: SimulatorConfig | None = None,
) -> list[str]:
    """Write `count` images with their masks into `folder`; returns the file names in order.

    The first `sequences` × `frames` images are frames of sequences, named `3.1V-001.png` after the voltage
    they were recorded at; the others show a specimen each and are named by number alone, so that each is a
    group of its own (see `training.data.names`). The same arguments give the same bytes, and a larger
    `count` only adds files. `size` is (height, width) in px. Raises `BadDataset`.
    """
    if sequences * frames > count:
        raise BadDataset(
            f"{sequences} sequences of {frames} frames are {sequences * frames} images, but only {count} "
            f"were asked for; raise the count or lower the number of sequences."
        )
    config = (config or SimulatorConfig()).model_copy(update={"size": size})
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    pixel_sizes: dict[str, float] = {}
    for name, micrograph in _micrographs(config, count, seed, sequences, frames):
        _write_image(folder / "images" / name, micrograph.image)
        write_mask(folder / "masks" / name, micrograph.mask, micrograph.classes)
        pixel_sizes[name] = round(micrograph.pixel_size_nm, 4)
    _write_json(folder / "classes.json", _classes(config.class_infos))
    _write_json(
        folder / "simulation.json",
        {"seed": seed, "config": config.model_dump(mode="json"), "pixel_size_nm": pixel_sizes},
    )
    return list(pixel_sizes)


def _micrographs(
    config: SimulatorConfig, count: int, seed: int, sequences: int, frames: int
) -> Iterator[tuple[str, Micrograph]]:
    for sequence in range(sequences):
        film = simulate_sequence(config, (seed, 1, sequence), frames)
        for frame, micrograph in enumerate(film, start=1):
            yield f"{3 + sequence / 10:.1f}V-{frame:03d}.png", micrograph
    for single in range(count - sequences * frames):
        yield f"{single + 1:04d}.png", simulate(config, (seed, 2, single))


def _classes(classes: tuple[ClassInfo, ...]) -> dict[str, Any]:
    listed = [{"index": i, "name": c.name, "color": c.color} for i, c in enumerate(classes)]
    return {"classes": listed, "ignore_index": IGNORE_INDEX}


def _write_image(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    done, png = cv2.imencode(".png", image)
    if not done:
        raise BadDataset(f"{path.name} could not be encoded as PNG; check the size and bits of the images.")
    write_atomically(path, png.tobytes())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1).encode())
