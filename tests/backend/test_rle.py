"""Label Studio's brush format, against Label Studio's own codec."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter import brush

from srpu_backend.regions import BadRegion, rle

pytestmark = pytest.mark.fast

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=70)
MASKS = hnp.arrays(np.bool_, SHAPES)


def of_the_sdk(mask: np.ndarray) -> list[int]:
    return brush.mask2rle(mask.astype(np.uint8) * 255)


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_any_mask_survives_the_round_trip(mask):
    alpha = rle.decode(rle.encode(mask), mask.shape)
    assert alpha.dtype == np.uint8
    assert np.array_equal(alpha, np.where(mask, 255, 0))


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_the_bytes_are_those_of_the_sdk(mask):
    assert rle.encode(mask) == of_the_sdk(mask)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.booleans())
def test_runs_of_every_length_give_the_bytes_of_the_sdk(runs, first):
    mask = np.repeat([(number % 2 == 0) == first for number in range(len(runs))], runs)[np.newaxis]
    assert rle.encode(mask) == of_the_sdk(mask)
    assert np.array_equal(rle.decode(rle.encode(mask), mask.shape) > 0, mask)


@pytest.mark.parametrize("pixels", [2**14 - 1, 2**14, 2**14 + 1, 2**15, 2**15 + 1, 3 * 2**14 + 7])
def test_runs_beyond_the_longest_count_are_split_as_the_sdk_splits_them(pixels):
    mask = np.zeros((4, 2**14), np.bool_)
    mask.ravel()[5 : 5 + pixels] = True
    assert rle.encode(mask) == of_the_sdk(mask)
    assert np.array_equal(rle.decode(rle.encode(mask), mask.shape) > 0, mask)


def test_a_stream_that_ends_on_a_byte_gets_the_extra_zero_byte_of_the_sdk():
    aligned = [m for m in (np.arange(n)[np.newaxis] % 3 == 0 for n in range(1, 80)) if of_the_sdk(m)[-1] == 0]
    assert aligned
    assert all(rle.encode(mask) == of_the_sdk(mask) for mask in aligned)


def test_1024_by_768_begins_as_label_studio_writes_it():
    assert rle.encode(np.zeros((768, 1024), np.bool_))[:7] == [0, 48, 0, 0, 57, 27, 255]


def test_any_number_but_zero_is_foreground():
    mask = np.array([[0, 1, 7, -1]])
    assert rle.encode(mask) == rle.encode(mask != 0)
    assert all(isinstance(byte, int) for byte in rle.encode(mask))


@pytest.mark.parametrize("shape", [(0, 4), (5,), (2, 2, 2)])
def test_what_is_no_mask_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        rle.encode(np.zeros(shape))


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_anti_aliased_alpha_is_read_as_it_is(alpha):
    """The editor writes R = G = B = A, with alphas from 0 to 255 along the edges of a stroke."""
    stream = brush.encode_rle(np.repeat(alpha.ravel(), 4))
    assert np.array_equal(rle.decode(stream, alpha.shape), alpha)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30), st.just(4))))
def test_only_alpha_counts_where_colours_differ(rgba):
    stream = brush.encode_rle(rgba.ravel())
    assert np.array_equal(rle.decode(stream, rgba.shape[:2]), rgba[..., 3])


def pack(tokens: Sequence[tuple[bool, Sequence[int]]], values: int, size_of: Sequence[int]) -> list[int]:
    """A stream with literals of several values, which the SDK never writes but thi.ng's packer may."""
    bits = f"{values:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    for (is_run, data), i in zip(tokens, size_of, strict=True):
        size = (3, 4, 8, 16)[i]
        bits += f"{int(is_run)}{i:02b}{len(data) - 1:0{size}b}"
        bits += "".join(f"{value:08b}" for value in (data[:1] if is_run else data))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_literals_of_any_count_and_size_are_read(data):
    count_of = {0: 8, 1: 16, 2: 256, 3: 600}
    tokens, size_of, total = [], [], 0
    while total == 0 or total % 4:
        for _ in range(data.draw(st.integers(1, 8))):
            i = data.draw(st.integers(0, 3))
            count = data.draw(st.integers(1, count_of[i]))
            is_run = data.draw(st.booleans())
            noise = random.Random(data.draw(st.integers(0, 99)))
            values = (
                [noise.randrange(256)] * count if is_run else [noise.randrange(256) for _ in range(count)]
            )
            tokens.append((is_run, values))
            size_of.append(i)
        rest = -sum(len(values) for _, values in tokens) % 4
        if rest:
            tokens.append((False, [9] * rest))
            size_of.append(0)
        total = sum(len(values) for _, values in tokens)
    stream = pack(tokens, total, size_of)
    expected = np.array([value for _, values in tokens for value in values], np.uint8)
    assert np.array_equal(rle.decode(stream, (1, total // 4)).ravel(), expected[3::4])
    assert np.array_equal(brush.decode_rle(stream), expected)


def test_the_most_wasteful_stream_that_the_format_allows_is_read():
    values = [7, 8, 9, 200] * 5
    for is_run in (True, False):
        stream = pack([(is_run, [value]) for value in values], 20, [3] * 20)
        assert rle.decode(stream, (1, 5)).tolist() == [[200] * 5]


def test_zero_bytes_after_the_last_value_do_no_harm():
    mask = np.eye(9, dtype=np.bool_)
    assert np.array_equal(rle.decode([*rle.encode(mask), 0, 0, 0], mask.shape) > 0, mask)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_stream_that_is_cut_short_is_refused(part):
    stream = rle.encode(np.random.default_rng(3).random((60, 70)) < 0.3)
    with pytest.raises(BadRegion):
        rle.decode(stream[: int(len(stream) * part)], (60, 70))


def test_a_stream_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(BadRegion, match="of 12 px, but the image has 20 px"):
        rle.decode(rle.encode(np.ones((3, 4))), (4, 5))


def test_a_stream_that_promises_more_than_the_image_holds_is_refused():
    stream = pack([(True, [255] * 60_000)] * 3, 16, [3] * 3)
    with pytest.raises(BadRegion, match="damaged"):
        rle.decode(stream, (2, 2))


@pytest.mark.parametrize(
    "nonsense",
    [None, "", "AAAA", [], {}, 10**9, [256] * 20, [-1] * 20, ["a"] * 20, [0.5] * 20, [None] * 20, [[0]] * 20],
)
def test_what_is_no_list_of_bytes_is_refused(nonsense):
    with pytest.raises(BadRegion):
        rle.decode(nonsense, (4, 5))


def test_a_stream_longer_than_any_mask_is_refused_before_it_is_read():
    with pytest.raises(BadRegion, match="longer"):
        rle.decode([0] * 10_000, (4, 5))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_garbage_is_read_or_refused_and_nothing_else(noise, height, width, with_header):
    header = rle.encode(np.zeros((height, width)))[:7] if with_header else []
    try:
        alpha = rle.decode([*header, *noise], (height, width))
    except BadRegion:
        return
    assert alpha.shape == (height, width)
    assert np.array_equal(alpha.ravel(), brush.decode_rle([*header, *noise])[3::4])


@settings(max_examples=200, deadline=None)
@given(MASKS, st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_stream_is_read_or_refused_and_nothing_else(mask, at, byte):
    stream = rle.encode(mask)
    stream[at % len(stream)] = byte
    try:
        assert rle.decode(stream, mask.shape).shape == mask.shape
    except BadRegion as error:
        assert str(error)
