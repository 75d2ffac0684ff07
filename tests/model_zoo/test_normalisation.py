from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from model_zoo.card import Normalisation
from model_zoo.normalisation import BadIntensities, normalise

pytestmark = pytest.mark.fast
PLAIN = Normalisation(mean=0, std=1)
FULL = Normalisation(kind="range", mean=0, std=1)
random = np.random.default_rng(0)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64, np.bool_]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=9),
    ),
    st.sampled_from([PLAIN, FULL]),
)
def test_any_image_becomes_finite_and_between_0_and_1(stack: NDArray[Any], how: Normalisation) -> None:
    before = stack.copy()
    found = normalise(stack, how)
    assert found.dtype == np.float32
    assert found.shape == stack.shape
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_array_equal(stack, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_percentiles_are_those_of_the_image(dtype: type) -> None:
    stack = random.integers(10, 240, (1, 300, 200)).astype(dtype)
    low, high = np.percentile(stack, [1, 99])
    expected = np.clip((stack.astype(float) - low) / (high - low), 0, 1)
    assert np.abs(normalise(stack, PLAIN) - expected).max() < 1.5 / (high - low)


def test_brightness_and_contrast_do_not_matter() -> None:
    stack = random.integers(0, 100, (1, 64, 64), dtype=np.uint8)
    np.testing.assert_allclose(normalise(stack * 2 + 31, PLAIN), normalise(stack, PLAIN), atol=1e-6)


def test_eight_and_sixteen_bit_of_one_scene_agree() -> None:
    stack = random.integers(0, 256, (1, 64, 64), dtype=np.uint8)
    wide = stack.astype(np.uint16) * 257
    for how in (PLAIN, FULL):
        np.testing.assert_allclose(normalise(wide, how), normalise(stack, how), atol=1e-6)


def test_frames_keep_their_difference_in_brightness() -> None:
    frame = random.integers(0, 100, (64, 64), dtype=np.uint8)
    dark, bright = normalise(np.stack([frame, frame + 100]), PLAIN)
    assert bright.mean() - dark.mean() > 0.4


def test_a_few_specks_on_an_even_ground_stay_visible() -> None:
    stack = np.full((1, 100, 100), 7, dtype=np.uint8)
    stack[0, 50, 50] = 200
    found = normalise(stack, PLAIN)
    assert found[0, 50, 50] == 1
    assert found[0, 0, 0] == 0


@pytest.mark.parametrize("value", [0, 3, 255])
def test_a_constant_image_becomes_mid_grey(value: int) -> None:
    for dtype in (np.uint8, np.float32):
        found = normalise(np.full((1, 4, 4), value, dtype=dtype), PLAIN)
        np.testing.assert_array_equal(found, 0.5)


def test_not_a_number_and_infinities_do_not_spread() -> None:
    stack = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(1, 100, 100)
    spoilt = stack.copy()
    spoilt[0, 0, :3] = [np.nan, np.inf, -np.inf]
    found = normalise(spoilt, PLAIN)
    assert found[0, 0, :3].tolist() == [0, 1, 0]
    np.testing.assert_allclose(found[0, 1:], normalise(stack, PLAIN)[0, 1:], atol=1e-3)
    np.testing.assert_array_equal(normalise(np.full((1, 2, 2), np.nan), PLAIN), 0.5)


def test_small_contrast_on_a_large_offset_survives() -> None:
    stack = 1e9 + np.linspace(0, 1, 10_000).reshape(1, 100, 100)
    assert np.unique(normalise(stack, PLAIN)).size > 9_000


def test_range_divides_by_what_the_dtype_holds() -> None:
    stack = np.array([[[0, 51, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(normalise(stack, FULL), [[[0, 0.2, 1]]], atol=1e-6)
    np.testing.assert_allclose(normalise(stack / np.float32(255), FULL), [[[0, 0.2, 1]]], atol=1e-6)


def test_mean_and_deviation_are_applied_last() -> None:
    stack = random.integers(0, 256, (1, 8, 8), dtype=np.uint8)
    how = Normalisation(mean=0.4, std=0.2)
    np.testing.assert_allclose(normalise(stack, how), (normalise(stack, PLAIN) - 0.4) / 0.2, atol=1e-5)


@pytest.mark.parametrize("stack", [np.zeros((4, 4)), np.zeros((1, 0, 4)), np.zeros((1, 2, 2), complex)])
def test_what_is_no_image_is_refused(stack: NDArray[Any]) -> None:
    with pytest.raises(BadIntensities):
        normalise(stack, PLAIN)
