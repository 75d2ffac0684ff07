"""Augmentation: image and truth stay together, and a seed is a seed."""

from __future__ import annotations

import numpy as np
import pytest

from training.augmentation.augmenter import CHANGES, Augmenter
from training.augmentation.config import Augmentation

pytestmark = pytest.mark.fast
STILL = {name: 0 for name in (*CHANGES, "elastic", "drift") if name != "inversion"}


def crop(depth: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array([0, 1, 2, 255], dtype=np.uint8), size=(32, 32))
    image = np.repeat((truth / 255.0).astype(np.float32)[None], depth, axis=0)
    return image, truth


@pytest.mark.parametrize("depth", [1, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_shape_type_and_range_are_kept(depth: int, seed: int) -> None:
    image, truth = Augmenter(Augmentation(probability=1.0))(*crop(depth), seed)
    assert (image.shape, image.dtype) == ((depth, 32, 32), np.float32)
    assert (truth.shape, truth.dtype) == ((32, 32), np.uint8)
    assert image.min() >= 0
    assert image.max() <= 1


def test_truth_turns_with_its_image_and_ignore_stays_ignore() -> None:
    augment = Augmenter(Augmentation(**STILL))
    turned = set()
    for seed in range(40):
        image, truth = augment(*crop(3), seed)
        np.testing.assert_array_equal(np.rint(image[1] * 255), truth)
        assert (truth == 255).sum() == (crop()[1] == 255).sum()
        turned.add(truth.tobytes())
    assert len(turned) == 8


def test_the_same_seed_makes_the_same_change_and_another_another() -> None:
    one, other = Augmenter(Augmentation()), Augmenter(Augmentation())
    for seed in range(10):
        one(*crop(seed=seed), seed + 100)  # what came before leaves no trace
        np.testing.assert_array_equal(one(*crop(), seed)[0], other(*crop(), seed)[0])
    assert not np.array_equal(one(*crop(), 0)[0], one(*crop(), 1)[0])


def test_switched_off_nothing_changes() -> None:
    image, truth = crop()
    found = Augmenter(Augmentation(enabled=False))(image, truth, 3)
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[1], truth)


def test_shot_noise_grows_with_intensity() -> None:
    config = Augmentation(**{**STILL, "shot_noise": 0.2}, orientation=False, probability=1.0)
    image = np.full((1, 64, 64), 0.05, dtype=np.float32)
    image[:, 32:] = 0.8
    spread = np.zeros(2)
    for seed in range(10):
        noisy, _ = Augmenter(config)(image, np.zeros((64, 64), np.uint8), seed)
        spread += noisy[0, :32].std(), noisy[0, 32:].std()
    assert 2 < spread[1] / spread[0] < 6


def test_frames_share_contrast_but_not_noise() -> None:
    image = np.full((3, 32, 32), 0.5, dtype=np.float32)
    still = Augmentation(**{**STILL, "contrast": 0.4, "brightness": 0.3}, probability=1.0)
    same, _ = Augmenter(still)(image, np.zeros((32, 32), np.uint8), 1)
    assert np.ptp(same) == 0
    assert same.mean() != pytest.approx(0.5)
    noisy, _ = Augmenter(Augmentation(**{**STILL, "noise": 0.1}, probability=1.0))(
        image, np.zeros((32, 32), np.uint8), 1
    )
    assert not np.array_equal(noisy[0], noisy[1])
