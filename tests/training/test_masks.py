"""Masks on disk."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from model_zoo.card import ClassInfo
from training.data.masks import BadMask, read_mask, write_mask
from training.data.micrograph import Limits

pytestmark = pytest.mark.fast

CLASSES = (
    ClassInfo(name="matrix", color="#000000"),
    ClassInfo(name="pore", color="red"),
    ClassInfo(name="grain", color="#0f8"),
)
MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)


@given(mask=arrays(np.uint8, st.tuples(*[st.integers(1, 40)] * 2), elements=st.sampled_from([0, 1, 2, 255])))
@settings(max_examples=50, deadline=None)
def test_any_mask_comes_back_as_it_was_written(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    write_mask(path, mask, CLASSES)
    assert np.array_equal(read_mask(path), mask)


def test_a_mask_is_a_palette_png_in_the_colours_of_its_classes(tmp_path):
    write_mask(tmp_path / "mask.png", MASK, CLASSES)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        colors = np.asarray(image.convert("RGB"))
    assert colors[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 136]]
    assert colors[1, 0].tolist() == [255, 255, 255]


def test_a_colour_nobody_knows_does_not_cost_the_mask(tmp_path):
    write_mask(tmp_path / "mask.png", MASK, (ClassInfo(name="odd", color="hotpinkish"), *CLASSES[1:]))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), MASK)


def test_the_same_mask_gives_the_same_bytes_and_leaves_no_other_file(tmp_path):
    for name in ("a.png", "b.png", "a.png"):
        write_mask(tmp_path / name, MASK, CLASSES)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_failed_write_keeps_the_old_mask(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, MASK, CLASSES)
    with pytest.raises(BadMask, match="holds the value 3, but there are 3 classes"):
        write_mask(path, MASK + np.uint8(1), CLASSES)
    assert np.array_equal(read_mask(path), MASK)


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.zeros((0, 2), np.uint8)]
)
def test_an_array_that_is_no_mask_is_refused(tmp_path, mask):
    with pytest.raises(BadMask, match="two-dimensional array of integers"):
        write_mask(tmp_path / "mask.png", mask, CLASSES)


def test_integers_of_any_width_are_indices(tmp_path):
    write_mask(tmp_path / "mask.png", MASK.astype(np.int64), CLASSES)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), MASK)
    with pytest.raises(BadMask, match="holds the value -1"):
        write_mask(tmp_path / "mask.png", np.array([[-1]]), CLASSES)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_grey_masks_of_other_programs_are_indices(tmp_path, mode):
    path = tmp_path / "mask.png"
    image = Image.fromarray(MASK)
    image = Image.fromarray(MASK.astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(path)
    assert np.array_equal(read_mask(path), MASK)


@pytest.mark.parametrize(("bits", "values"), [(1, [0, 1, 1, 0]), (2, [0, 1, 2, 3]), (4, [0, 1, 2, 15])])
def test_indices_of_few_bits_are_not_stretched(tmp_path, bits, values):
    (tmp_path / "mask.png").write_bytes(_small_png(bits, values))
    assert read_mask(tmp_path / "mask.png").tolist() == [values]


def test_a_drawing_in_colours_is_refused(tmp_path):
    colors = np.zeros((4, 4, 3), np.uint8)
    colors[0, 0] = (255, 0, 0)
    Image.fromarray(colors).save(tmp_path / "mask.png")
    with pytest.raises(BadMask, match="colours are not class indices"):
        read_mask(tmp_path / "mask.png")


def test_values_beyond_255_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 256, np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(BadMask, match="holds the value 256"):
        read_mask(tmp_path / "mask.png")


def test_what_is_no_png_is_refused_in_a_sentence(tmp_path):
    Image.fromarray(MASK).save(tmp_path / "mask.tif")
    with pytest.raises(BadMask, match="not a PNG"):
        read_mask(tmp_path / "mask.tif")
    with pytest.raises(BadMask, match="does not exist"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadMask, match="is empty"):
        read_mask(tmp_path / "empty.png")


def test_a_mask_cut_short_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64)).astype(np.uint8)).save(buffer, "PNG")
    (tmp_path / "mask.png").write_bytes(buffer.getvalue()[:200])
    with pytest.raises(BadMask, match="cut short"):
        read_mask(tmp_path / "mask.png")


def test_bounds_are_checked_before_decoding(tmp_path):
    write_mask(tmp_path / "mask.png", MASK, CLASSES)
    with pytest.raises(BadMask, match="3 × 2 px"):
        read_mask(tmp_path / "mask.png", Limits(max_pixels=5))


def _small_png(bits: int, values: list[int]) -> bytes:
    """A grey PNG of one row with `bits` per pixel, which Pillow can read but not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    row = int("".join(f"{value:0{bits}b}" for value in values).ljust(16, "0"), 2).to_bytes(2, "big")
    row = row[: (len(values) * bits + 7) // 8]
    header = len(values).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
