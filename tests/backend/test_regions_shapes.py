"""Polygons, rectangles and ellipses as pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.converter.utils import convert_annotation_to_yolo_obb

from srpu_backend.regions import BadRegion, shapes

pytestmark = pytest.mark.fast

SHAPE = (90, 160)
"""Not square: percent are of different lengths in x and y, so that turning must happen in pixels."""
FINE = 16


def assert_covers(mask: np.ndarray, points: list[tuple[float, float]]) -> None:
    """A pixel is in when the outline, in px, goes around its middle: by OpenCV at 16 times the size.

    Where the outline passes within an eighth of a pixel of the middle, either is right.
    """
    fine = np.zeros((SHAPE[0] * FINE, SHAPE[1] * FINE), np.uint8)
    cv2.fillPoly(fine, [np.round(np.array(points) * FINE * 256 - 128).astype(np.int32)], 1, shift=8)
    middles = fine.reshape(SHAPE[0], FINE, SHAPE[1], FINE)[:, FINE // 2 - 2 : FINE // 2 + 2]
    middles = middles[..., FINE // 2 - 2 : FINE // 2 + 2]
    assert mask.shape == SHAPE
    assert mask[middles.all(axis=(1, 3))].all()
    assert not mask[~middles.any(axis=(1, 3))].any()


percents = st.floats(-30, 130)
degrees = st.floats(-720, 720)


def test_a_pixel_belongs_to_a_polygon_when_its_centre_does():
    square = {"points": [[10, 10], [20, 10], [20, 20], [10, 20]]}
    mask = shapes.polygon(square, (100, 100))
    assert mask.dtype == np.bool_
    expected = np.zeros((100, 100), np.bool_)
    expected[10:20, 10:20] = True
    assert np.array_equal(mask, expected)


def test_neighbouring_polygons_share_no_pixel_and_leave_no_gap():
    left = shapes.polygon({"points": [[0, 0], [33.3, 0], [51.7, 100], [0, 100]]}, SHAPE)
    right = shapes.polygon({"points": [[33.3, 0], [100, 0], [100, 100], [51.7, 100]]}, SHAPE)
    assert np.array_equal(left, ~right)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(percents, percents), min_size=3, max_size=3))
def test_triangles_agree_with_an_independent_rasteriser(points):
    pixels = [(x * SHAPE[1] / 100, y * SHAPE[0] / 100) for x, y in points]
    assert_covers(shapes.polygon({"points": points}, SHAPE), pixels)


def test_direction_does_not_matter():
    points = [[10, 10], [80, 20], [60, 70], [20, 90]]
    assert np.array_equal(
        shapes.polygon({"points": points}, SHAPE), shapes.polygon({"points": points[::-1]}, SHAPE)
    )


def test_a_ring_reached_over_a_bridge_that_runs_the_other_way_is_a_hole():
    outer = [[10, 10], [90, 10], [90, 90], [10, 90], [10, 10]]
    hole = [[30, 30], [30, 70], [70, 70], [70, 30], [30, 30]]
    mask = shapes.polygon({"points": outer + hole}, (100, 100))
    expected = np.zeros((100, 100), np.bool_)
    expected[10:90, 10:90] = True
    expected[30:70, 30:70] = False
    assert np.array_equal(mask, expected)


def test_what_a_polygon_runs_over_twice_is_filled_as_browsers_fill_it():
    twice = [[10, 10], [60, 10], [60, 60], [10, 60], [10, 10], [40, 10], [40, 40], [10, 40]]
    mask = shapes.polygon({"points": twice}, (100, 100))
    assert mask.sum() == 50 * 50


def test_an_unclosed_polygon_is_closed():
    points = [[10, 10], [50, 10], [50, 50]]
    closed = shapes.polygon({"points": points, "closed": True}, SHAPE)
    assert np.array_equal(shapes.polygon({"points": points, "closed": False}, SHAPE), closed)


@settings(max_examples=100, deadline=None)
@given(percents, percents, st.floats(2, 80), st.floats(2, 80), degrees)
def test_rectangles_turn_clockwise_about_their_corner_as_the_sdk_has_it(x, y, width, height, rotation):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0]}
    corners = convert_annotation_to_yolo_obb(value | size, normalize=False)
    assert_covers(shapes.rectangle(value, SHAPE), corners)


def test_a_quarter_turn_brings_a_rectangle_to_the_left_of_its_corner():
    mask = shapes.rectangle({"x": 50, "y": 50, "width": 25, "height": 20, "rotation": 90}, (100, 200))
    expected = np.zeros((100, 200), np.bool_)
    expected[50:100, 80:100] = True
    assert np.array_equal(mask, expected)


@settings(max_examples=100, deadline=None)
@given(percents, percents, st.floats(1, 60), st.floats(1, 60), degrees)
def test_ellipses_turn_clockwise_about_their_centre(x, y, radius_x, radius_y, rotation):
    value = {"x": x, "y": y, "radiusX": radius_x, "radiusY": radius_y, "rotation": rotation}
    turn = math.radians(rotation)
    outline = []
    for step in range(360):
        across = radius_x * SHAPE[1] / 100 * math.cos(math.radians(step))
        down = radius_y * SHAPE[0] / 100 * math.sin(math.radians(step))
        outline.append(
            (
                x * SHAPE[1] / 100 + across * math.cos(turn) - down * math.sin(turn),
                y * SHAPE[0] / 100 + across * math.sin(turn) + down * math.cos(turn),
            )
        )
    assert_covers(shapes.ellipse(value, SHAPE), outline)


@pytest.mark.parametrize("draw", [shapes.rectangle, shapes.ellipse])
def test_rotation_may_be_missing(draw):
    value = {"x": 40, "y": 40, "width": 20, "height": 20, "radiusX": 20, "radiusY": 10}
    assert np.array_equal(draw(value, SHAPE), draw(value | {"rotation": 0}, SHAPE))
    assert np.array_equal(draw(value, SHAPE), draw(value | {"rotation": None}, SHAPE))


def test_shapes_outside_of_the_image_and_without_area_cover_nothing():
    assert not shapes.polygon({"points": [[-9, -9], [-2, -9], [-2, -2]]}, SHAPE).any()
    assert not shapes.polygon({"points": [[10, 10], [20, 20], [30, 30]]}, SHAPE).any()
    assert not shapes.polygon({"points": [[10, 10], [20, 20]]}, SHAPE).any()
    assert not shapes.polygon({"points": [[10, 10]]}, SHAPE).any()
    assert not shapes.rectangle({"x": 10, "y": 10, "width": 0, "height": 5}, SHAPE).any()
    assert not shapes.ellipse({"x": 10, "y": 10, "radiusX": 0, "radiusY": 5}, SHAPE).any()
    assert not shapes.ellipse({"x": 300, "y": 300, "radiusX": 5, "radiusY": 5}, SHAPE).any()


@pytest.mark.parametrize(
    "points",
    [None, [], "abc", 7, {}, [[1, 2, 3]] * 4, [[1], [2, 3], [4]], [1, 2, 3],
     [[1, float("nan")], [2, 3], [4, 5]], [[1, float("inf")], [2, 3], [4, 5]], [[1, None], [2, 3], [4, 5]],
     [[1, 10**400], [2, 3], [4, 5]], [[1, 1e9], [2, 3], [4, 5]], [[1, "x"], [2, 3], [4, 5]],
     [[0, 0]] * 100_001],
)  # fmt: skip
def test_points_that_are_none_are_refused(points):
    with pytest.raises(BadRegion, match="points"):
        shapes.polygon({"points": points}, SHAPE)


@pytest.mark.parametrize("number", [None, "5", True, float("nan"), float("-inf"), 10**400, 1e9, [5], {}])
@pytest.mark.parametrize("name", ["x", "y", "width", "rotation"])
def test_numbers_that_are_none_are_refused_by_name(name, number):
    if name == "rotation" and number in (None, {}):
        return  # as good as 0
    value = {"x": 5, "y": 5, "width": 5, "height": 5, "rotation": 0}
    with pytest.raises(BadRegion, match=name):
        shapes.rectangle(value | {name: number}, SHAPE)
    with pytest.raises(BadRegion):
        shapes.ellipse({"x": 5, "y": 5, "radiusX": number, "radiusY": 5}, SHAPE)


def test_a_polygon_of_many_points_is_filled_in_bounded_memory():
    zigzag = [[i % 100, (i * 50) % 100] for i in range(20_000)]
    assert shapes.polygon({"points": zigzag}, SHAPE).shape == SHAPE
