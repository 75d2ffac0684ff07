from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_zoo.inference.tiles import Tiling, probabilities, softmax

pytestmark = pytest.mark.fast
SMALL = Tiling(tile=32, overlap=8, stride=8, whole=0)
Images = NDArray[np.float32]
sizes = st.integers(1, 90)


def two_classes(images: Images) -> Images:
    """Logits that depend on each pixel alone."""
    return np.stack([images[:, 0], -images[:, 0]], axis=1)


def image(height: int, width: int) -> Images:
    return np.random.default_rng(height * 97 + width).normal(size=(1, height, width)).astype(np.float32)


@given(sizes, sizes, st.integers(1, 5))
def test_tiles_cover_every_pixel_and_change_no_answer(height: int, width: int, batch: int) -> None:
    stack = image(height, width)
    found = probabilities(stack, 2, two_classes, SMALL, batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax(two_classes(stack[None])[0]), atol=1e-5)


@given(sizes, sizes)
def test_the_network_is_fed_multiples_of_its_stride_in_bounded_batches(height: int, width: int) -> None:
    fed: list[tuple[int, ...]] = []

    def spy(images: Images) -> Images:
        fed.append(images.shape)
        return two_classes(images)

    probabilities(image(height, width), 2, spy, SMALL, batch=3)
    assert all(n <= 3 and h % 8 == 0 and w % 8 == 0 and h <= 32 and w <= 32 for n, _, h, w in fed)
    assert len({shape[2:] for shape in fed}) == 1


def test_neighbouring_tiles_share_the_overlap() -> None:
    seen = np.zeros((1, 90, 90), dtype=np.float32)
    stack = np.arange(seen.size, dtype=np.float32).reshape(seen.shape)

    def count(images: Images) -> Images:
        seen.reshape(-1)[images.astype(int).reshape(-1)] += 1
        return two_classes(images)

    probabilities(stack, 2, count, SMALL)
    inner = seen[0, :, 45] >= 1
    assert inner.all()
    doubly = np.flatnonzero(seen[0, :, 0] >= 2)
    runs = np.split(doubly, np.flatnonzero(np.diff(doubly) > 1) + 1)
    assert all(len(run) >= SMALL.overlap for run in runs)


def test_a_small_image_is_fed_whole() -> None:
    shapes = []

    def spy(images: Images) -> Images:
        shapes.append(images.shape)
        return two_classes(images)

    tiling = Tiling.of(tile=32, stride=32)
    probabilities(image(60, 50), 2, spy, tiling)
    assert shapes == [(1, 1, 64, 64)]
    probabilities(image(65, 50), 2, spy, tiling)
    assert set(shapes[1:]) == {(1, 1, 32, 32)}


@pytest.mark.parametrize(("tile", "stride", "side", "overlap"), [(512, 32, 512, 64), (1000, 32, 1024, 128)])
def test_tiles_are_rounded_up_to_the_stride(tile: int, stride: int, side: int, overlap: int) -> None:
    tiling = Tiling.of(tile, stride)
    assert (tiling.tile, tiling.overlap) == (side, overlap)


def test_the_middle_of_a_tile_outweighs_the_border_of_its_neighbour() -> None:
    def border_is_wrong(images: Images) -> Images:
        logits = two_classes(np.ones_like(images))
        for edge in (logits[..., :3, :], logits[..., -3:, :], logits[..., :3], logits[..., -3:]):
            edge *= -1
        return logits

    tiling = Tiling(tile=64, overlap=32, stride=8, whole=0)
    found = probabilities(np.zeros((1, 256, 256), np.float32), 2, border_is_wrong, tiling)
    assert (found[0, 3:-3, 3:-3] > 0.5).all()


def test_softmax_survives_extreme_logits() -> None:
    found = softmax(np.array([[1e4], [-1e4], [0]], dtype=np.float32))
    np.testing.assert_allclose(found[:, 0], [1, 0, 0])


@pytest.mark.parametrize("shape", [(1, 20, 27), (1, 3, 2), (2, 1, 1)])
def test_beyond_the_border_the_image_is_continued_not_darkened(shape: tuple[int, ...]) -> None:
    fed: list[Images] = []

    def spy(images: Images) -> Images:
        fed.append(images)
        return two_classes(images)

    stack = image(*shape[1:]).repeat(shape[0], axis=0)
    probabilities(stack, 2, spy, Tiling.of(32, 32))
    _, height, width = shape
    np.testing.assert_array_equal(fed[0][0, :, :height, :width], stack)
    assert set(np.unique(fed[0])) == set(np.unique(stack))
    if min(height, width) > 2:
        np.testing.assert_array_equal(
            fed[0][0, :, height], stack[:, height - 2][:, np.r_[:width, width - 2 : width - 7 : -1]]
        )
