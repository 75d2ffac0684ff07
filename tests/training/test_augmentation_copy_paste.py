"""Copy-paste: the mask says exactly what was pasted, on labelled ground, and nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micrographs import CLASSES, picture, write_sample

from training.augmentation.config import Augmentation, Probabilities
from training.augmentation.copy_paste import FEATHER, CopyPaste
from training.config import load_config
from training.data.dataset import LabelledImages, TrainingCrops

pytestmark = pytest.mark.fast
MATRIX, GRAIN, RARE, IGNORED = 0, 1, 2, 255
ALWAYS = Augmentation(probabilities=Probabilities(copy_paste=1))


@dataclass(frozen=True)
class Image:
    pixels: np.ndarray
    truth: np.ndarray


def donor(level: float = 0.3) -> Image:
    """A bright L-shaped body on dark ground, at a grain and a strip nobody spoke about."""
    truth = np.zeros((96, 96), np.uint8)
    truth[:, 60:] = GRAIN
    truth[:8] = IGNORED
    truth[40:52, 30:34] = truth[48:52, 30:44] = RARE
    grey = np.full((96, 96), level, np.float32)
    grey[truth == RARE] = level + 0.4
    return Image(np.rint(grey[None] * 65535).astype(np.uint16), truth)


def counts(*images: Image) -> np.ndarray:
    return np.sum([np.bincount(image.truth[image.truth != IGNORED], minlength=3) for image in images], axis=0)


def paste_into(
    truth: np.ndarray, depth: int = 1, seed: int = 0, level: float = 0.6
) -> tuple[np.ndarray, ...]:
    source = donor()
    source = Image(np.repeat(source.pixels, depth, axis=0), source.truth)
    home = Image(np.zeros((depth, 4, 4), np.uint16), np.zeros((4, 4), np.uint8))
    pixels = np.full((depth, *truth.shape), level, np.float32)
    paste = CopyPaste([home, source], counts(source), ALWAYS, 64)
    return (pixels, *paste(pixels, truth, home, np.random.default_rng(seed)))


def test_a_body_keeps_its_outline_and_its_contrast() -> None:
    truth = np.zeros((80, 80), np.uint8)
    before, pixels, mask = paste_into(truth)
    assert set(np.unique(mask)) == {MATRIX, RARE}
    assert (mask == RARE).sum() % (donor().truth == RARE).sum() == 0
    np.testing.assert_allclose(pixels[0][mask == RARE], 0.6 + 0.4, atol=1e-3)
    np.testing.assert_allclose(pixels[0][mask == MATRIX], 0.6, atol=1e-3)
    assert not truth.any(), "what was given is left alone"
    assert (before == np.float32(0.6)).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_only_labelled_ground_is_covered(seed: int) -> None:
    truth = np.random.default_rng(seed).choice(
        np.array([MATRIX, MATRIX, MATRIX, GRAIN, RARE, IGNORED], np.uint8), size=(5, 5)
    )
    truth = np.kron(truth, np.ones((32, 32), np.uint8))
    before, pixels, mask = paste_into(truth, depth=2, seed=seed)
    changed = mask != truth
    assert (truth[changed] == MATRIX).all()
    assert (mask[changed] == RARE).all()
    # Nor is anything else touched by the faded rim.
    touched = (pixels != before).any(axis=0)
    assert (truth[touched] == MATRIX).all()
    assert np.array_equal(pixels[0], pixels[1]), "frames move together"


def test_a_place_without_ground_or_room_is_left_as_it_is() -> None:
    for truth in (np.full((80, 80), value, np.uint8) for value in (GRAIN, RARE, IGNORED)):
        before, pixels, mask = paste_into(truth)
        np.testing.assert_array_equal(mask, truth)
        np.testing.assert_array_equal(pixels, before)
    small = np.zeros((10, 10), np.uint8)
    np.testing.assert_array_equal(paste_into(small)[2], small)


def test_a_neighbour_leaves_no_trace() -> None:
    source = donor()
    source.truth[40:52, 36:39] = GRAIN
    source.pixels[0, 40:52, 36:39] = 0
    home = Image(np.zeros((1, 4, 4), np.uint16), np.zeros((4, 4), np.uint8))
    paste = CopyPaste([home, source], counts(donor()), ALWAYS, 64)
    pixels = np.full((1, 80, 80), 0.6, np.float32)
    found, mask = paste(pixels, np.zeros((80, 80), np.uint8), home, np.random.default_rng(0))
    assert (mask == RARE).any()
    assert found.min() > 0.55


def test_bodies_are_whole_and_rare() -> None:
    source = donor()
    source.truth[0:20, 10:20] = RARE  # touches the border: a part of something
    source.truth[80, 80] = RARE  # a slip of the pen
    assert len(CopyPaste([source], counts(source), ALWAYS, 64).bodies[RARE]) == 1
    assert not CopyPaste([source], counts(source), ALWAYS, 8).bodies, "too large"
    common = np.array([100, 100, 50])
    assert not CopyPaste([source], common, ALWAYS, 64).bodies
    off = Augmentation(copy_paste=0, probabilities=Probabilities(copy_paste=1))
    assert not CopyPaste([source], counts(source), off, 64).bodies
    assert FEATHER < 8


def test_a_training_sees_more_of_a_rare_class_and_the_same_crops_otherwise(tmp_path: Path) -> None:
    samples = []
    for seed in range(3):
        image, truth = picture(seed, (256, 256))
        samples.append(write_sample(tmp_path, f"task-{seed}", image, truth))
    probabilities = dict.fromkeys(Probabilities.model_fields, 0.0)
    quiet = {"augmentation.orientation": False, "foreground_crops": 0, "augmentation.copy_paste_share": 0.05}
    off = load_config("test", {**quiet, "augmentation.probabilities": probabilities})
    on = load_config("test", {**quiet, "augmentation.probabilities": {**probabilities, "copy_paste": 1}})
    images = LabelledImages.load(samples, len(CLASSES), off, tmp_path / "decoded")
    base, pasted = TrainingCrops(images, off), TrainingCrops(images, on)
    gained = 0
    for number in range(30):
        (pixels, truth), (new_pixels, new_truth) = base[number], pasted[number]
        assert pasted[number][0].equal(new_pixels)
        gained += int((new_truth != truth).sum() > 0)
        same = (new_truth == truth) & (new_pixels[0] == pixels[0])
        assert same.float().mean() > 0.3
        assert int((new_truth == 255).sum()) == int((truth == 255).sum())
    assert gained > 10
