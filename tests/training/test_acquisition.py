"""Entropy of predictions, and what of it makes an image's score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy as scipy_entropy

from training.active_learning.acquisition import (
    TOP_AREA,
    bald_map,
    entropy,
    entropy_map,
    least_confidence_map,
    margin_map,
    pool_by_class,
    pool_top_area,
)

pytestmark = pytest.mark.fast
logits = arrays(np.float32, (4, 6, 5), elements=st.floats(-30, 30, width=32))


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=0))
    return (raised / raised.sum(axis=0)).astype(np.float32)


@given(logits)
def test_the_map_is_scipys_entropy_over_its_maximum(values: np.ndarray) -> None:
    probabilities = softmax(values)
    found = entropy_map(probabilities)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found, scipy_entropy(probabilities.astype(float), base=4), atol=2e-5)


def test_certainty_is_zero_and_indifference_one() -> None:
    probabilities = np.zeros((3, 1, 2), dtype=np.float32)
    probabilities[0, 0, 0] = 1
    probabilities[:, 0, 1] = 1 / 3
    np.testing.assert_allclose(entropy_map(probabilities), [[0, 1]], atol=1e-6)


def test_a_single_class_is_never_uncertain() -> None:
    assert entropy(np.ones((1, 4, 4), dtype=np.float32)) == 0.0


def test_flat_area_does_not_hide_an_uncertain_place() -> None:
    small, large = np.zeros((20, 20)), np.zeros((100, 100))
    small[:10, :10], large[:40, :40] = 0.9, 0.9
    assert pool_top_area(small) == pytest.approx(0.9)
    assert pool_top_area(large) == pytest.approx(0.9)


@given(arrays(np.float32, (9, 7), elements=st.floats(0, 1, width=32)), st.floats(0.01, 1))
def test_pooling_is_the_mean_of_the_largest_values(values: np.ndarray, share: float) -> None:
    count = max(1, round(share * values.size))
    expected = np.sort(values.ravel())[::-1][:count].mean(dtype=float)
    assert pool_top_area(values, share) == pytest.approx(expected, abs=1e-6)


def test_the_share_is_of_pixels() -> None:
    values = np.zeros(1000).reshape(10, 100)
    values[0, : round(1000 * TOP_AREA)] = 1
    assert pool_top_area(values) == 1.0


@pytest.mark.parametrize(("size", "share"), [(0, 0.5), (4, 0.0), (4, 1.5)])
def test_an_empty_map_or_share_is_refused(size: int, share: float) -> None:
    with pytest.raises(ValueError, match="Cannot pool"):
        pool_top_area(np.zeros((size, size)), share)


@given(logits)
def test_margin_and_confidence_are_those_of_the_sorted_probabilities(values: np.ndarray) -> None:
    probabilities = softmax(values)
    ordered = np.sort(probabilities, axis=0)
    np.testing.assert_allclose(margin_map(probabilities), 1 - (ordered[-1] - ordered[-2]), atol=1e-6)
    np.testing.assert_allclose(least_confidence_map(probabilities), (1 - ordered[-1]) * 4 / 3, atol=1e-6)


def test_one_class_leaves_no_doubt() -> None:
    alone = np.ones((1, 3, 2), dtype=np.float32)
    assert margin_map(alone).max() == least_confidence_map(alone).max() == 0


@given(arrays(np.float32, (3, 4, 5, 2), elements=st.floats(-9, 9, width=32)))
def test_disagreement_is_the_mutual_information(values: np.ndarray) -> None:
    members = [softmax(each) for each in values]
    mean = np.mean([member.astype(float) for member in members], axis=0)
    expected = scipy_entropy(mean, base=4) - np.mean(
        [scipy_entropy(member.astype(float), base=4) for member in members], axis=0
    )
    np.testing.assert_allclose(bald_map(iter(members)), np.clip(expected, 0, 1), atol=2e-5)


def test_members_that_agree_teach_nothing_however_unsure() -> None:
    unsure = np.full((2, 3, 3), 0.5, dtype=np.float32)
    assert bald_map([unsure, unsure]).max() == pytest.approx(0, abs=1e-6)
    sure = np.stack([np.ones((3, 3)), np.zeros((3, 3))]).astype(np.float32)
    assert bald_map([sure, sure[::-1]]).min() == pytest.approx(1)
    with pytest.raises(ValueError, match="no answer"):
        bald_map([])


def test_doubt_is_counted_by_the_class_it_is_about() -> None:
    class_map = np.zeros((100, 100), np.uint8)
    class_map[:20, :20], class_map[50, 50] = 1, 2
    doubt = np.full((100, 100), 0.1, np.float32)
    doubt[:20, :20], doubt[50, 50] = 0.8, 1.0
    found = pool_by_class(doubt, class_map, 4)
    # 400 px of class 1 all count; one stray px of class 2 counts for a tenth of the least area; 3 is absent.
    np.testing.assert_allclose(found, [0.1, 0.8, 0.1, 0.0], rtol=1e-5)
