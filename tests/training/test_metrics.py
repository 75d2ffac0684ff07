"""Scores from confusion matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix, jaccard_score

from training.scoring.metrics import confusion, iou, labelled_iou, miou

pytestmark = pytest.mark.fast
CLASSES = 4
masks = arrays(np.uint8, (7, 5), elements=st.sampled_from([*range(CLASSES), 255]))
predictions = arrays(np.uint8, (7, 5), elements=st.integers(0, CLASSES - 1))


@given(masks, predictions)
def test_confusion_is_sklearns_over_the_pixels_that_are_not_ignored(
    truth: np.ndarray, predicted: np.ndarray
) -> None:
    counted = truth != 255
    found = confusion(truth, predicted, CLASSES)
    assert found.dtype == np.int64
    if counted.any():
        expected = confusion_matrix(truth[counted], predicted[counted], labels=range(CLASSES))
        np.testing.assert_array_equal(found, expected)
    else:
        assert not found.any()


@given(predictions, predictions)
def test_iou_is_sklearns_jaccard(truth: np.ndarray, predicted: np.ndarray) -> None:
    found = iou(confusion(truth, predicted, CLASSES))
    occurring = sorted({*truth.ravel().tolist(), *predicted.ravel().tolist()})
    expected = np.full(CLASSES, np.nan)
    expected[occurring] = jaccard_score(truth.ravel(), predicted.ravel(), labels=occurring, average=None)
    np.testing.assert_allclose(found, expected)


def test_a_class_nobody_labelled_has_no_say_in_the_mean() -> None:
    counts = np.array([[8, 0, 2], [0, 5, 0], [0, 0, 0]])
    np.testing.assert_allclose(iou(counts), [0.8, 1.0, 0.0])
    np.testing.assert_allclose(labelled_iou(counts), [0.8, 1.0, np.nan])
    assert miou(counts) == pytest.approx(0.9)


def test_nothing_labelled_has_no_score() -> None:
    assert np.isnan(miou(np.zeros((3, 3))))


def test_many_matrices_are_scored_as_each_alone() -> None:
    counts = np.random.default_rng(0).integers(0, 9, size=(6, 3, 3))
    counts[0, 1] = 0
    np.testing.assert_allclose(miou(counts), [miou(one) for one in counts])


@pytest.mark.parametrize("stray", [(4, 0), (0, 4)])
def test_an_index_beyond_the_classes_is_refused(stray: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="4 classes"):
        confusion(np.array([stray[0]]), np.array([stray[1]]), CLASSES)


def test_a_prediction_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2, 3\)"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
