"""Bitmask regions: PNGs in data URLs."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from srpu_backend.regions import BadRegion, bitmask

pytestmark = pytest.mark.fast

MASK = np.random.default_rng(0).random((13, 21)) < 0.4


def url_of(image: Image.Image, **options: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return as_url(buffer.getvalue())


def as_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def png_of(url: str) -> bytes:
    return base64.b64decode(url.split(",", 1)[1])


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=50)))
def test_any_mask_survives_the_round_trip(mask):
    decoded = bitmask.decode(bitmask.encode(mask), mask.shape)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, mask)


def test_what_we_write_is_black_and_opaque_on_transparent_as_the_editor_draws_it():
    image = Image.open(io.BytesIO(png_of(bitmask.encode(MASK))))
    assert image.mode == "RGBA"
    pixels = np.asarray(image)
    assert np.array_equal(pixels[..., 3], np.where(MASK, 255, 0))
    assert not pixels[..., :3].any()


def test_the_faintest_alpha_is_foreground():
    rgba = np.zeros((*MASK.shape, 4), np.uint8)
    rgba[..., 3] = MASK
    assert np.array_equal(bitmask.decode(url_of(Image.fromarray(rgba)), MASK.shape), MASK)


def test_transparent_pixels_are_background_whatever_their_colour():
    rgba = np.full((*MASK.shape, 4), 255, np.uint8)
    rgba[..., 3] = np.where(MASK, 255, 0)
    assert np.array_equal(bitmask.decode(url_of(Image.fromarray(rgba)), MASK.shape), MASK)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_a_png_without_transparency_is_white_on_black(mode):
    grey = Image.fromarray(np.where(MASK, 255, 0).astype(np.uint8))
    image = Image.fromarray(MASK.astype(np.uint16) * 256) if mode == "I;16" else grey.convert(mode)
    assert np.array_equal(bitmask.decode(url_of(image), MASK.shape), MASK)


def test_a_palette_with_transparent_entries_is_read():
    image = Image.fromarray(MASK.astype(np.uint8))
    image.putpalette([0, 0, 0, 0, 0, 0])
    assert np.array_equal(bitmask.decode(url_of(image, transparency=b"\0\xff", bits=1), MASK.shape), MASK)


def test_grey_with_alpha_is_read():
    la = Image.merge("LA", [Image.new("L", MASK.shape[::-1]), Image.fromarray(MASK.astype(np.uint8) * 9)])
    assert np.array_equal(bitmask.decode(url_of(la), MASK.shape), MASK)


def test_a_png_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(BadRegion, match="21 × 13 px, but the image 13 × 21 px"):
        bitmask.decode(bitmask.encode(MASK), (21, 13))


def test_a_png_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(BadRegion, match="60000"):
        bitmask.decode(as_url(png + bytes(50)), MASK.shape)


def test_a_second_header_does_not_get_past_the_check():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    headers = [chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)) for side in (16, 60_000)]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(headers) + chunk(b"IDAT", zlib.compress(bytes(99)))
    with pytest.raises(BadRegion, match="two headers"):
        bitmask.decode(as_url(png), (16, 16))


def test_a_url_larger_than_any_mask_is_refused_before_it_is_read():
    with pytest.raises(BadRegion, match="larger"):
        bitmask.decode(bitmask.encode(MASK) + "A" * 200_000, MASK.shape)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.7])
def test_a_png_that_is_cut_short_is_refused(part):
    noise = np.random.default_rng(1).integers(0, 256, (*MASK.shape, 4), np.uint8)
    png = png_of(url_of(Image.fromarray(noise)))
    with pytest.raises(BadRegion):
        bitmask.decode(as_url(png[: int(len(png) * part)]), MASK.shape)


@pytest.mark.parametrize(
    "nonsense",
    [None, 7, "", [], "data:image/jpeg;base64,AAAA", "data:image/png;base64,", "data:image/png;base64,!!!!",
     "data:image/png;base64,é", "https://example.org/mask.png", as_url(b"GIF89a" + bytes(60))],
)  # fmt: skip
def test_what_is_no_png_data_url_is_refused(nonsense):
    with pytest.raises(BadRegion):
        bitmask.decode(nonsense, MASK.shape)


@settings(max_examples=200, deadline=None)
@given(st.integers(33, 400), st.binary(min_size=1, max_size=30))
def test_a_damaged_png_is_read_or_refused_and_nothing_else(at, noise):
    png = bytearray(png_of(bitmask.encode(MASK)))
    png[at % len(png) : at % len(png) + len(noise)] = noise
    try:
        assert bitmask.decode(as_url(bytes(png)), MASK.shape).shape == MASK.shape
    except BadRegion as error:
        assert str(error)
