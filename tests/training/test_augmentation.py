"""Augmentation: image and truth stay together, a seed is a seed, and what is off does nothing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.augmentation.augmenter import CHANGES, Augmenter
from training.augmentation.config import NO_AUGMENTATION, Augmentation, Probabilities
from training.augmentation.focus import disk, gaussian
from training.config import load_config

pytestmark = pytest.mark.fast
NEVER: dict[str, float] = dict.fromkeys(Probabilities.model_fields, 0.0)
STRENGTHS = {name: 0 for name in NEVER if name != "inversion"}
GEOMETRY = ("elastic", "drift")
OWN_IN_EACH_FRAME = ("noise", "shot_noise", "curtaining", "charging")
SHARED_BY_FRAMES = tuple(name for name in CHANGES if name not in OWN_IN_EACH_FRAME)


def only(*names: str, **strengths: Any) -> Augmentation:
    """These changes, always, and no others."""
    always = dict.fromkeys(names, 1.0)
    return Augmentation(orientation=False, probabilities=Probabilities(**{**NEVER, **always}), **strengths)


def crop(depth: int = 1, seed: int = 0, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Discs of two classes on a matrix, and a band nobody spoke about; all frames alike."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((side, side), np.uint8)
    for index in (1, 2, 1, 2):
        cv2.circle(truth, tuple(int(place) for place in rng.integers(8, side - 8, 2)), 7, index, -1)
    truth[-5:] = 255
    levels = np.full(256, 0.6, np.float32)
    levels[:3] = 0.4, 0.9, 0.1
    image = cv2.GaussianBlur(levels[truth], (0, 0), 1.0)
    return np.repeat(image[None], depth, axis=0), truth


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_shape_type_and_range_are_kept(depth: int, seed: int) -> None:
    everything = Augmentation(probabilities=Probabilities(**dict.fromkeys(NEVER, 1.0)))
    image, truth = Augmenter(everything)(*crop(depth), seed)
    assert (image.shape, image.dtype) == ((depth, 64, 64), np.float32)
    assert (truth.shape, truth.dtype) == ((64, 64), np.uint8)
    assert image.flags.c_contiguous
    assert truth.flags.c_contiguous
    assert image.min() >= 0
    assert image.max() <= 1


def test_truth_turns_with_its_image_and_ignore_stays_ignore() -> None:
    image, truth = crop()
    image = (truth / 255).astype(np.float32)[None]
    turned = set()
    augment = Augmenter(Augmentation(probability=0))
    for seed in range(40):
        turned_image, turned_truth = augment(image, truth, seed)
        np.testing.assert_array_equal(np.rint(turned_image[0] * 255), turned_truth)
        turned.add(turned_truth.tobytes())
    assert len(turned) == 8


def test_a_rectangle_is_turned_too() -> None:
    image, truth = np.zeros((1, 20, 30), np.float32), np.zeros((20, 30), np.uint8)
    shapes = {Augmenter(Augmentation())(image, truth, seed)[1].shape for seed in range(20)}
    assert shapes == {(20, 30), (30, 20)}


def test_the_same_seed_makes_the_same_change_and_another_another() -> None:
    one, other = Augmenter(Augmentation()), Augmenter(Augmentation())
    for seed in range(10):
        one(*crop(seed=seed), seed + 100)  # what came before leaves no trace
        for first, second in zip(one(*crop(), seed), other(*crop(), seed), strict=True):
            np.testing.assert_array_equal(first, second)
    assert not np.array_equal(one(*crop(), 0)[0], one(*crop(), 1)[0])


@pytest.mark.parametrize(
    "config",
    [
        NO_AUGMENTATION,
        Augmentation(orientation=False, probability=0),
        Augmentation(orientation=False, probability=1, **STRENGTHS),
        only(),
    ],
    ids=["disabled", "probability 0", "strengths 0", "probabilities 0"],
)
def test_switched_off_nothing_changes(config: Augmentation) -> None:
    image, truth = crop(3)
    for seed in range(10):
        found = Augmenter(config)(image, truth, seed)
        np.testing.assert_array_equal(found[0], image)
        np.testing.assert_array_equal(found[1], truth)


@pytest.mark.parametrize("name", [*GEOMETRY, *CHANGES])
def test_each_change_changes_something_and_leaves_its_input_alone(name: str) -> None:
    image, truth = crop()
    before = image.copy(), truth.copy()
    changed = [Augmenter(only(name))(image, truth, seed) for seed in range(5)]
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(truth, before[1])
    assert any(np.abs(found - image).max() > 0.01 for found, _ in changed)
    if name not in GEOMETRY:
        assert all(np.array_equal(mask, truth) for _, mask in changed)


@pytest.mark.parametrize("name", [*GEOMETRY, *CHANGES])
def test_switching_one_change_off_leaves_the_others_as_they_were(name: str) -> None:
    partner = "brightness" if name != "brightness" else "contrast"
    both = Augmenter(only(name, partner, **{name: 0} if name != "inversion" else {}))
    if name == "inversion":
        both = Augmenter(only(partner))
    np.testing.assert_array_equal(both(*crop(), 3)[0], Augmenter(only(partner))(*crop(), 3)[0])


@pytest.mark.parametrize("name", GEOMETRY)
def test_the_mask_moves_exactly_as_the_image_does(name: str) -> None:
    _, truth = crop(side=128)
    truth = cv2.resize(truth, (128, 128), interpolation=cv2.INTER_NEAREST)
    image = (truth == 1).astype(np.float32)[None]
    moved_something = False
    for seed in range(6):
        found, mask = Augmenter(only(name, drift=8, elastic=12))(image, truth, seed)
        moved_something |= bool((mask != truth).sum() > 20)
        known = mask != 255
        certain = known & ((found[0] < 0.25) | (found[0] > 0.75))
        # Up to half a pixel is interpolated; never more than that do image and mask disagree.
        np.testing.assert_array_equal((found[0] > 0.5)[certain], (mask == 1)[certain])
        assert certain.sum() > 0.9 * known.sum()
    assert moved_something


def test_what_drifts_in_from_outside_is_ignored() -> None:
    image, truth = np.full((1, 64, 64), 0.5, np.float32), np.ones((64, 64), np.uint8)
    masks = [Augmenter(only("drift", drift=20))(image, truth, seed)[1] for seed in range(5)]
    assert all(set(np.unique(mask)) <= {1, 255} for mask in masks)
    ignored = [np.flatnonzero((mask == 255).any(axis=0)) for mask in masks]
    assert any(columns.size for columns in ignored)
    assert all(np.isin(columns, [*range(30), *range(34, 64)]).all() for columns in ignored)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), values=st.sets(st.sampled_from([0, 1, 5, 254, 255]), min_size=1))
def test_no_label_is_invented(seed: int, values: set[int]) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice(np.array(sorted(values), np.uint8), size=(40, 48))
    image = rng.random((2, 40, 48), dtype=np.float32)
    strong = Augmentation(elastic=20, drift=10, probabilities=Probabilities(elastic=1, drift=1))
    found, mask = Augmenter(strong)(image, truth, seed)
    assert set(np.unique(mask).tolist()) <= values | {255}
    assert found.shape[1:] == mask.shape
    assert np.isfinite(found).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    level=st.sampled_from([0.0, 0.5, 1.0, None]),
    side=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_extreme_settings_stay_finite(seed: int, level: float | None, side: tuple[int, int]) -> None:
    extreme = Augmentation(
        contrast=0.99,
        brightness=0.99,
        gamma=0.99,
        shading=0.99,
        noise=0.99,
        shot_noise=0.99,
        blur=20,
        astigmatism=0.99,
        defocus=20,
        charging=1,
        curtaining=0.99,
        drift=100,
        elastic=100,
        elastic_scale=4,
        probabilities=Probabilities(**dict.fromkeys(NEVER, 1.0)),
    )
    rng = np.random.default_rng(seed)
    image = (
        rng.random((1, *side), dtype=np.float32) if level is None else np.full((1, *side), level, np.float32)
    )
    found, _ = Augmenter(extreme)(image, np.zeros(side, np.uint8), seed)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("name", [*GEOMETRY, *SHARED_BY_FRAMES])
def test_frames_of_a_stack_change_alike(name: str) -> None:
    found, _ = Augmenter(only(name))(*crop(3), 1)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("name", OWN_IN_EACH_FRAME)
def test_noise_charge_and_stripes_are_each_frames_own(name: str) -> None:
    found, _ = Augmenter(only(name))(*crop(3), 1)
    assert not np.array_equal(found[0], found[1])


def test_shot_noise_grows_with_intensity() -> None:
    image = np.full((1, 64, 64), 0.05, dtype=np.float32)
    image[:, 32:] = 0.8
    spread = np.zeros(2)
    for seed in range(10):
        noisy, _ = Augmenter(only("shot_noise", shot_noise=0.2))(image, np.zeros((64, 64), np.uint8), seed)
        spread += noisy[0, :32].std(), noisy[0, 32:].std()
    assert 2 < spread[1] / spread[0] < 6


def test_charge_darkens_what_the_scan_line_meets_next() -> None:
    image = np.full((1, 128, 128), 0.5, np.float32)
    image[:, 54:74, 40:60] = 0.9
    truth = np.zeros((128, 128), np.uint8)
    found = np.mean([Augmenter(only("charging"))(image, truth, seed)[0][0] for seed in range(20)], axis=0)
    beside, after, before = found[54:74, 58:64], found[54:74, 72:90], found[54:74, 5:20]
    assert after.mean() < before.mean() - 0.02
    assert beside.mean() > before.mean()
    assert abs(found[5:20].mean() - 0.5) < 0.01  # other lines know nothing of it


def test_curtains_hang_across_the_scan_lines() -> None:
    image = np.full((1, 128, 128), 0.5, np.float32)
    found, _ = Augmenter(only("curtaining", curtaining=0.3))(image, np.zeros((128, 128), np.uint8), 2)
    along, across = np.abs(np.diff(found[0], axis=0)).mean(), np.abs(np.diff(found[0], axis=1)).mean()
    assert across > 10 * along


def test_beams_keep_the_light_they_spread() -> None:
    for kernel in (gaussian(2.0, 1.0, 0.7), disk(2.3)):
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    along = np.argwhere(gaussian(3.0, 1.0, 0.0) > 0.01)
    assert np.ptp(along[:, 1]) > 2 * np.ptp(along[:, 0])


def test_one_number_switches_a_change() -> None:
    default = Augmentation()
    assert default.chance("inversion") == 0
    assert default.chance("contrast") == default.probability
    assert load_config("test", ["augmentation.elastic=0"]).augmentation.chance("elastic") == 0
    chosen = load_config("test", ["augmentation.probabilities.elastic=1"]).augmentation
    assert chosen.chance("elastic") == 1
    assert chosen.chance("charging") == default.chance("charging")
    assert load_config("test", ["augmentation.probability=0"]).augmentation.chance("elastic") == 0


def test_validation_is_not_changed_unless_asked_for() -> None:
    assert not load_config("test").validation_augmentation.enabled
    asked = load_config("test", ["validation_augmentation.noise=0.1", "validation_augmentation.enabled=true"])
    assert asked.validation_augmentation.enabled
    assert asked.validation_augmentation.noise == 0.1


def test_frames_of_a_stack_turn_alike() -> None:
    augment = Augmenter(Augmentation(probability=0))
    for seed in range(20):
        found, _ = augment(*crop(3), seed)
        for frame in found[1:]:
            np.testing.assert_array_equal(frame, found[0])
