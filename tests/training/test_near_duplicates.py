"""Which images are taken for the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from micrograph_folders import texture

from training.data.near_duplicates import Clusters, Descriptions, describe
from training.simulator import simulate
from training.simulator.config import SimulatorConfig

pytestmark = pytest.mark.fast
SIZE = (256, 320)


def clusters(tmp_path: Path, images: list[np.ndarray]) -> list[int]:
    with Descriptions(tmp_path / "descriptions") as descriptions:
        for image in images:
            descriptions.add(describe(image))
        found = Clusters(len(images))
        for first, second in descriptions.pairs():
            found.join(first, second)
    assert not (tmp_path / "descriptions").exists()
    return [found.of(number) for number in range(len(images))]


@pytest.fixture(scope="module")
def micrograph() -> np.ndarray:
    return simulate(SimulatorConfig(size=SIZE), (1, 2)).image


CHANGES = {
    "jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0),
    "darker": lambda image: (image * 0.5 + 20).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 0.5).astype(np.uint8),
    "16 bit": lambda image: image.astype(np.uint16) * 16,
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "shifted": lambda image: np.roll(image, (3, 3), (0, 1)),
    "cropped": lambda image: image[: SIZE[0] * 97 // 100, : SIZE[1] * 97 // 100],
    "noise": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 10, image.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(tmp_path: Path, micrograph: np.ndarray, change: str) -> None:
    others = [texture(seed, SIZE) for seed in range(3)]
    assert clusters(tmp_path, [others[0], micrograph, *others[1:], CHANGES[change](micrograph)]) == [
        0,
        1,
        2,
        3,
        1,
    ]


def test_different_images_with_the_same_info_bar_stay_apart(tmp_path: Path) -> None:
    images = [simulate(SimulatorConfig(size=SIZE), (seed, 0)).image for seed in range(8)]
    assert clusters(tmp_path, images) == list(range(8))


def test_frames_of_nothing_are_not_alike(tmp_path: Path) -> None:
    assert clusters(tmp_path, [np.zeros(SIZE, np.uint8)] * 3 + [np.full(SIZE, 9, np.uint16)]) == [0, 1, 2, 3]


def test_real_micrographs_of_different_places_stay_apart(tmp_path: Path, shared_data: Path) -> None:
    from training.data.micrograph import read_micrograph

    images = [read_micrograph(path) for path in sorted((shared_data / "nasa_super/images").iterdir())]
    assert clusters(tmp_path, images) == list(range(len(images)))


def test_pairs_are_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.near_duplicates._BLOCK", 4)
    images = [texture(seed) for seed in range(9)]
    assert clusters(tmp_path, [*images, images[0], images[5]]) == [*range(9), 0, 5]


def test_clusters_join_what_is_joined_and_count_it() -> None:
    found = Clusters(6)
    for first, second in ((4, 2), (5, 4), (0, 1)):
        found.join(first, second)
    assert [found.of(number) for number in range(6)] == [0, 0, 2, 3, 2, 2]
    assert found.count_of_several() == 2
