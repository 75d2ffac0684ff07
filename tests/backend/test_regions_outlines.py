"""Polygons around the pixels of a mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from srpu_backend.regions.outlines import components, joined
from training.data.regions.shapes import fill

pytestmark = pytest.mark.fast

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30))


def blobs(seed: int, shape: tuple[int, int] = (300, 400)) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 8)
    return smooth > np.quantile(smooth, 0.6)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_without_simplification_the_outlines_fill_to_exactly_the_mask(mask):
    filled = np.zeros(mask.shape, np.bool_)
    for component in components(mask):
        pixels = fill(component.outline(tolerance=0), mask.shape)
        assert not (filled & pixels).any()
        filled |= pixels
    assert np.array_equal(filled, mask)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_all_components_joined_to_one_ring_fill_to_exactly_the_mask(mask):
    rings = [component.outline(tolerance=0) for component in components(mask)]
    if rings:
        assert np.array_equal(fill(joined(rings), mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_components_are_those_of_the_eight_neighbourhood(mask):
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert len(components(mask)) == count - 1


@pytest.mark.parametrize("seed", range(5))
def test_simplified_outlines_have_few_points_and_lose_little(seed):
    mask = blobs(seed)
    rings = [component.outline() for component in components(mask)]
    filled = np.logical_or.reduce([fill(ring, mask.shape) for ring in rings])
    assert iou(filled, mask) > 0.97
    assert sum(map(len, rings)) < 0.5 * sum(len(c.outline(tolerance=0)) for c in components(mask))


def test_a_ring_keeps_its_hole_when_filled_by_either_rule():
    yy, xx = np.mgrid[:200, :200]
    distance = np.hypot(xx - 99.5, yy - 99.5)
    mask = (distance < 80) & (distance > 40)
    (component,) = components(mask)
    outline = component.outline()
    assert iou(fill(outline, mask.shape), mask) > 0.98
    even_odd = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(even_odd, [np.round((outline - 0.5) * 256).astype(np.int32)], 1, shift=8)
    assert iou(even_odd > 0, mask) > 0.97


def test_area_is_in_pixels_without_the_holes():
    mask = np.zeros((100, 100), np.bool_)
    mask[10:90, 10:90] = True
    mask[30:70, 30:70] = False
    (component,) = components(mask)
    assert component.area == pytest.approx(mask.sum(), rel=0.05)


def test_a_single_pixel_has_an_outline_that_fills_to_it():
    mask = np.zeros((5, 7), np.bool_)
    mask[2, 3] = True
    (component,) = components(mask)
    assert np.array_equal(fill(component.outline(), mask.shape), mask)


def test_an_empty_mask_has_no_components():
    assert components(np.zeros((4, 5), np.bool_)) == []
