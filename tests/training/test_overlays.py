"""Class maps over micrographs."""

from __future__ import annotations

import numpy as np
import pytest

from model_zoo.card import ClassInfo
from training import overlays

pytestmark = pytest.mark.fast

CLASSES = (
    ClassInfo(name="matrix", color="#000000"),
    ClassInfo(name="particle", color="#e6194b"),
    ClassInfo(name="pore", color="#4363d8"),
)


def grey(bits: int = 8) -> np.ndarray:
    """A ramp from black to white over the whole range of the bit depth: (48, 64)."""
    ramp = np.linspace(0, 2**bits - 1, 64)
    return np.tile(ramp, (48, 1)).astype(np.uint8 if bits == 8 else np.uint16)


def class_map() -> np.ndarray:
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[10:30, 5:25] = 1
    mask[10:30, 35:55] = 2
    mask[36:, :] = 255
    return mask


@pytest.mark.parametrize("bits", [8, 16])
def test_a_clear_class_shows_the_micrograph_and_others_their_tint(bits: int) -> None:
    picture = overlays.overlay(grey(bits), class_map(), CLASSES, opacity=0.5)
    shown = overlays.display_grey(grey(bits))
    assert (picture.dtype, picture.shape) == (np.uint8, (48, 64, 3))
    np.testing.assert_array_equal(picture[0], np.repeat(shown[0, :, None], 3, axis=1))
    expected = (shown[20, 10] + np.array([0xE6, 0x19, 0x4B])) / 2
    np.testing.assert_allclose(picture[20, 10], expected, atol=1)


def test_without_opacity_nothing_is_tinted_and_with_all_nothing_shines_through() -> None:
    bare, full = (overlays.overlay(grey(), class_map(), CLASSES, opacity) for opacity in (0.0, 1.0))
    np.testing.assert_array_equal(
        bare[:36], np.repeat(overlays.display_grey(grey())[:36, :, None], 3, axis=2)
    )
    assert (full[10:30, 35:55] == (0x43, 0x63, 0xD8)).all()


def test_ignored_pixels_are_hatched() -> None:
    picture = overlays.overlay(grey(), class_map(), CLASSES)
    hatched = (picture[36:] == 160).all(axis=2)
    assert 0.15 < hatched.mean() < 0.4
    assert not (picture[31:36] == 160).all(axis=2).mean() > 0.05


def test_outlines_follow_the_rim_and_leave_the_inside_bare() -> None:
    picture = overlays.outlines(grey(), class_map(), CLASSES, width=2)
    red = (picture == (0xE6, 0x19, 0x4B)).all(axis=2)
    inside = np.zeros_like(red)
    inside[12:28, 7:23] = True
    rim = (class_map() == 1) & ~inside
    np.testing.assert_array_equal(red, rim)


def test_an_overlay_may_have_a_rim() -> None:
    picture = overlays.overlay(grey(), class_map(), CLASSES, 0.3, rim=2)
    outlined = overlays.outlines(grey(), class_map(), CLASSES, width=2)
    red = (outlined == (0xE6, 0x19, 0x4B)).all(axis=2)
    assert (picture[red] == (0xE6, 0x19, 0x4B)).all()
    bare = overlays.overlay(grey(), class_map(), CLASSES, 0.3)
    np.testing.assert_array_equal(picture[12:28, 7:23], bare[12:28, 7:23])


def test_a_region_that_runs_off_the_image_has_no_rim_there() -> None:
    mask = np.ones((48, 64), dtype=np.uint8)
    shown = np.repeat(overlays.display_grey(grey())[..., None], 3, axis=2)
    np.testing.assert_array_equal(overlays.outlines(grey(), mask, CLASSES), shown)


def test_the_error_map_tells_missed_from_invented_from_mixed_up() -> None:
    truth = class_map()
    predicted = np.zeros_like(truth)
    predicted[10:30, 5:15] = 1  # half of it is missed
    predicted[10:30, 35:55] = 1  # a pore taken for a particle
    predicted[0:5, :] = 2  # an invention
    picture = overlays.error_map(grey(), truth, predicted, CLASSES)
    assert (picture[10:30, 15:25] == overlays.MISSED).all()
    assert (picture[10:30, 35:55] == overlays.MIXED_UP).all()
    assert (picture[0:5] == overlays.FALSE_ALARM).all()
    right = picture[10:30, 5:15]
    assert (right[..., 0] == right[..., 2]).all()
    for color in (overlays.MISSED, overlays.MIXED_UP, overlays.FALSE_ALARM):
        assert not (picture[36:] == color).all(axis=2).any()


def test_colours_that_are_unknown_or_shared_are_replaced_by_different_ones() -> None:
    classes = [ClassInfo(name="a"), ClassInfo(name="b"), ClassInfo(name="c", color="no colour")]
    colors = overlays.class_colors(classes)
    assert len({tuple(color) for color in colors.tolist()}) == 3


def test_the_background_is_clear_however_it_is_told() -> None:
    classes = [
        ClassInfo(name="x", implicit=True),
        ClassInfo(name="Background", color="#123456"),
        ClassInfo(name="matrix", color="black"),
        ClassInfo(name="pore", color="#4363d8"),
    ]
    assert overlays.clear_classes(classes).tolist() == [True, True, True, False]


def test_a_flat_image_is_shown_as_it_is() -> None:
    assert (overlays.display_grey(np.full((4, 4), 90, np.uint8)) == 90).all()


@pytest.mark.parametrize(("shape", "index", "said"), [((9, 9), 0, "both must be"), ((48, 64), 3, "holds 3")])
def test_what_does_not_fit_is_refused(shape: tuple[int, int], index: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        overlays.overlay(grey(), np.full(shape, index, np.uint8), CLASSES)
