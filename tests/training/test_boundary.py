"""Boundary F1: outlines met within a tolerance."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.scoring.boundary import boundary_counts, boundary_f1

pytestmark = pytest.mark.fast

SIDE = 40


def square(left: int, size: int = 16, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[10 : 10 + size, left : left + size] = 1
    return mask


def f1(truth: np.ndarray, predicted: np.ndarray, tolerance: float, classes: int = 2) -> np.ndarray:
    return boundary_f1(boundary_counts(truth, predicted, classes, tolerance))


def by_hand(truth: np.ndarray, predicted: np.ndarray, classes: int, tolerance: float) -> np.ndarray:
    """The same counts pixel by pixel, as the definition reads."""
    height, width = truth.shape

    def outline(class_map: np.ndarray, index: int) -> list[tuple[int, int]]:
        found = []
        for y in range(height):
            for x in range(width):
                if truth[y, x] == 255 or class_map[y, x] != index:
                    continue
                around = [
                    (j, i)
                    for j in range(max(y - 1, 0), min(y + 2, height))
                    for i in range(max(x - 1, 0), min(x + 2, width))
                ]
                if any(class_map[p] != index and truth[p] != 255 for p in around):
                    found.append((y, x))
        return found

    def near(pixel: tuple[int, int], others: list[tuple[int, int]]) -> bool:
        return any(np.hypot(pixel[0] - y, pixel[1] - x) <= tolerance for y, x in others)

    ignored = [tuple(place) for place in np.argwhere(truth == 255)]
    counts = np.zeros((classes, 4), dtype=np.int64)
    for index in range(classes):
        maps = outline(truth, index), outline(predicted, index)
        for place, (own, other) in enumerate((maps, maps[::-1])):
            kept = [pixel for pixel in own if not near(pixel, ignored)]
            counts[index, 2 * place] = len(kept)
            counts[index, 2 * place + 1] = sum(near(pixel, other) for pixel in kept)
    return counts


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 0, 1, 2, 255])),
    arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 0, 1, 2])),
    st.sampled_from([0.0, 1.0, 1.5, 3.0]),
)
def test_counts_are_those_of_the_definition(
    truth: np.ndarray, predicted: np.ndarray, tolerance: float
) -> None:
    np.testing.assert_array_equal(
        boundary_counts(truth, predicted, 3, tolerance), by_hand(truth, predicted, 3, tolerance)
    )


def test_the_same_map_meets_every_outline() -> None:
    assert f1(square(10), square(10), 0.0).tolist() == [1, 1]


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_shift_within_the_tolerance_is_no_error(shift: int) -> None:
    found = f1(square(10), square(10 + shift), 2.0)[1]
    assert (found == 1.0) == (shift <= 2)
    assert found > 0.5  # the sides along which it was shifted are met all the same


def test_a_frayed_outline_costs_more_than_it_costs_in_iou() -> None:
    truth = np.zeros((200, 200), dtype=np.uint8)
    cv2.circle(truth, (100, 100), 70, 1, thickness=-1)
    frayed = truth.copy()
    for angle in np.arange(0, 2 * np.pi, 0.12):
        cv2.circle(frayed, (int(100 + 70 * np.cos(angle)), int(100 + 70 * np.sin(angle))), 3, 1, thickness=-1)
    overlap = ((truth == 1) & (frayed == 1)).sum() / ((truth == 1) | (frayed == 1)).sum()
    assert overlap > 0.92
    assert f1(truth, frayed, 1.0)[1] < 0.6


def test_what_is_missing_or_invented_scores_nothing_and_what_is_nowhere_has_no_score() -> None:
    empty = np.zeros((SIDE, SIDE), dtype=np.uint8)
    assert f1(square(10), empty, 2.0)[1] == 0
    assert f1(empty, square(10), 2.0)[1] == 0
    assert np.isnan(f1(empty, empty, 2.0)).all()


def test_the_image_border_is_no_boundary() -> None:
    left_half = np.zeros((SIDE, SIDE), dtype=np.uint8)
    left_half[:, :20] = 1
    assert boundary_counts(left_half, left_half, 2, 0.0)[:, 0].tolist() == [SIDE, SIDE]


def test_where_nobody_spoke_no_outline_is_asked_for() -> None:
    truth, predicted = square(10), square(10)
    truth[:, 18:] = 255  # the right half of the square, and all beyond it
    predicted[:, 18:] = 0
    assert f1(truth, predicted, 2.0)[1] == 1.0
    spoken = boundary_counts(truth, predicted, 2, 2.0)
    assert 0 < spoken[1, 0] < boundary_counts(square(10), square(10), 2, 2.0)[1, 0]
    truth[:] = 255
    assert boundary_counts(truth, predicted, 2, 2.0).sum() == 0
