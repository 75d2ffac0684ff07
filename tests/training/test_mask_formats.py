"""Masks as labs keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from micrograph_folders import CLASSES, blocks, write_image
from PIL import Image

from training.data.classes_file import ClassList
from training.data.mask_formats import decode_binary_masks, decode_mask
from training.data.masks import BadMask, write_mask

pytestmark = pytest.mark.fast
LIST = ClassList(CLASSES, ignore_color=(255, 255, 255))
COLORS = np.array([*LIST.colors, *[(9, 9, 9)] * 252, (255, 255, 255)], np.uint8)
MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)
any_mask = arrays(np.uint8, st.tuples(*[st.integers(1, 20)] * 2), elements=st.sampled_from([0, 1, 2, 255]))


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@given(mask=any_mask)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("how", ["index", "palette", "rgb", "rgba"])
def test_any_mask_is_read_the_same_from_every_format(tmp_path_factory, how, mask):
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    if how == "palette":
        write_mask(path, mask, CLASSES)
    elif how == "index":
        saved(path, mask)
    else:
        opaque = np.full((*mask.shape, 1), 255, np.uint8)
        saved(path, COLORS[mask] if how == "rgb" else np.dstack([COLORS[mask], opaque]))
    decoded = decode_mask(path, LIST)
    assert np.array_equal(decoded.mask, mask)
    assert not decoded.unknown


def test_a_palette_that_an_editor_reordered_is_read_by_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([0, 0, 255, 0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "mask.png")
    assert decode_mask(tmp_path / "mask.png", LIST).mask.tolist() == [[2, 0, 1]]
    assert decode_mask(tmp_path / "mask.png", LIST, "index").mask.tolist() == [[0, 1, 2]]


def test_a_palette_of_other_colours_is_read_by_its_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([1, 2, 3, 40, 50, 60, 7, 8, 9])
    image.save(tmp_path / "mask.png")
    assert decode_mask(tmp_path / "mask.png", LIST).mask.tolist() == [[0, 1, 2]]


def test_unknown_colours_are_told_with_counts_and_places(tmp_path):
    colors = COLORS[MASK].copy()
    colors[0, 2] = colors[1, 1] = (0, 200, 0)
    decoded = decode_mask(saved(tmp_path / "m.png", colors), LIST)
    assert [(u.value, u.pixels, u.places) for u in decoded.unknown] == [("#00c800", 2, ((2, 0), (1, 1)))]
    assert decoded.mask[0, 2] == 255
    assert decoded.unknown_pixels == 2


def test_unknown_values_are_told_with_counts_and_places(tmp_path):
    decoded = decode_mask(saved(tmp_path / "m.png", np.array([[0, 7], [7, 1]], np.uint8)), LIST)
    assert [(u.value, u.pixels, u.places) for u in decoded.unknown] == [("7", 2, ((1, 0), (0, 1)))]


def test_a_tolerance_takes_smoothed_colours_for_the_nearest_class(tmp_path):
    path = saved(tmp_path / "m.png", np.array([[[250, 10, 5], [0, 8, 240], [120, 120, 0]]], np.uint8))
    assert decode_mask(path, LIST, "color", 30).mask.tolist() == [[1, 2, 255]]
    assert [u.value for u in decode_mask(path, LIST, "color", 30).unknown] == ["#787800"]
    assert len(decode_mask(path, LIST, "color").unknown) == 3


def test_transparent_pixels_are_black(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)
    assert decode_mask(saved(tmp_path / "m.png", pixels), LIST).mask.tolist() == [[1, 0]]


def test_black_and_white_alone_is_doubted(tmp_path):
    path = saved(tmp_path / "m.png", np.array([[0, 255]], np.uint8))
    assert "only 0 and 255" in decode_mask(path, LIST).note
    assert not decode_mask(saved(tmp_path / "n.png", MASK), LIST).note


def test_grey_values_that_are_the_colours_of_classes_are_read_as_such(tmp_path):
    greys = ClassList((CLASSES[0], CLASSES[1].model_copy(update={"color": "#808080"})))
    decoded = decode_mask(saved(tmp_path / "m.png", np.array([[0, 128]], np.uint8)), greys)
    assert decoded.mask.tolist() == [[0, 1]]


def test_another_index_may_mean_ignore(tmp_path):
    decoded = decode_mask(saved(tmp_path / "m.png", np.array([[0, 9]], np.uint8)), ClassList(CLASSES, 9))
    assert decoded.mask.tolist() == [[0, 255]]
    assert not decoded.unknown


@pytest.mark.parametrize("white", [1, 255])
def test_one_png_per_class_makes_one_mask(tmp_path, white):
    mask = blocks(indices=(0, 1, 2, 255))
    paths = {
        name: write_image(tmp_path / f"{name}.png", (mask == value).astype(np.uint8) * np.uint8(white))
        for name, value in (("pore", 1), ("crack", 2), ("ignore", 255))
    }
    assert np.array_equal(decode_binary_masks(paths, LIST).mask, mask)


def test_binary_masks_that_overlap_say_so_and_the_later_class_wins(tmp_path):
    all_white = np.full((4, 4), 255, np.uint8)
    paths = {name: write_image(tmp_path / f"{name}.png", all_white) for name in ("crack", "pore")}
    decoded = decode_binary_masks(paths, LIST)
    assert (decoded.mask == 2).all()
    assert decoded.overlapping == 16


def test_binary_masks_of_different_sizes_are_refused(tmp_path):
    paths = {
        name: write_image(tmp_path / f"{name}.png", np.zeros((4, side), np.uint8))
        for name, side in (("pore", 4), ("crack", 5))
    }
    with pytest.raises(BadMask, match="5 × 4 px, those of other classes are 4 × 4 px"):
        decode_binary_masks(paths, LIST)


def test_a_jpeg_is_no_mask(tmp_path):
    with pytest.raises(BadMask, match="not a PNG"):
        decode_mask(write_image(tmp_path / "m.jpg", MASK), LIST)


def test_a_damaged_colour_mask_is_refused_in_a_sentence(tmp_path):
    path = saved(tmp_path / "m.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadMask, match="damaged"):
        decode_mask(path, LIST)
