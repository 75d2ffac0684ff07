"""What people drew, as a mask."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.converter import brush

from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import bitmask, masks_from_results, rle, shapes

pytestmark = pytest.mark.fast

WIDTH, HEIGHT = SIZE = (40, 30)
SHAPE = (HEIGHT, WIDTH)
IGNORE = 255
PORE, GRAIN = 1, 2

CONFIG = LabelConfig.parse(
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="pore"/><Label value="grain"/></BrushLabels></View>'
)
WITH_BACKGROUND = LabelConfig.parse(
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="pore"/><Label value="background"/></BrushLabels></View>'
)


def region(type: str, value: dict[str, Any], label: str | None = "pore", **fields: Any) -> dict[str, Any]:
    labels = {type: [label]} if label is not None else {}
    return {
        "id": "r1",
        "type": type,
        "from_name": "brush",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "origin": "manual",
        "value": {**value, **labels},
        **fields,
    }


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def painted(mask: np.ndarray) -> dict[str, Any]:
    return {"format": "rle", "rle": rle.encode(mask)}


AREA = box(10, 6, 20, 15)
VALUES: dict[str, dict[str, Any]] = {
    "brush": painted(AREA),
    "bitmask": {"imageDataURL": bitmask.encode(AREA)},
    "polygon": {"points": [[25, 20], [50, 20], [50, 50], [25, 50]], "closed": True},
    "rectangle": {"x": 25, "y": 20, "width": 25, "height": 30, "rotation": 0},
    "ellipse": {"x": 37.5, "y": 35, "radiusX": 12.5, "radiusY": 15, "rotation": 0},
}


def area_of(kind: str) -> np.ndarray:
    return shapes.ellipse(VALUES["ellipse"], SHAPE) if kind == "ellipse" else AREA


def classes_of(*results: Any, config: LabelConfig = CONFIG) -> np.ndarray:
    """The mask, of results that have no problems."""
    decoded = masks_from_results(list(results), config, SIZE)
    assert decoded.problems == ()
    assert decoded.mask.dtype == np.uint8
    assert decoded.mask.shape == SHAPE
    return decoded.mask


@pytest.mark.parametrize("kind", VALUES)
class TestEveryTag:
    def test_with_labels_of_its_own(self, kind):
        mask = classes_of(region(f"{kind}labels", VALUES[kind], "grain"))
        assert np.array_equal(mask, np.where(area_of(kind), GRAIN, 0))

    def test_with_a_labels_result_of_the_same_id_that_repeats_the_shape(self, kind):
        """As the editor submits it, in either order."""
        pair = [region(kind, VALUES[kind], None), region("labels", VALUES[kind], "grain")]
        expected = np.where(area_of(kind), GRAIN, 0)
        assert np.array_equal(classes_of(*pair), expected)
        assert np.array_equal(classes_of(*pair[::-1]), expected)

    def test_with_a_labels_result_that_holds_the_label_alone(self, kind):
        pair = [region(kind, VALUES[kind], None), region("labels", {}, "grain")]
        assert np.array_equal(classes_of(*pair), np.where(area_of(kind), GRAIN, 0))

    def test_with_labels_inside_its_own_value(self, kind):
        merged = region(kind, {**VALUES[kind], "labels": ["grain"]}, None)
        assert np.array_equal(classes_of(merged), np.where(area_of(kind), GRAIN, 0))

    def test_as_a_labels_result_alone(self, kind):
        mask = classes_of(region("labels", VALUES[kind], "grain"))
        assert np.array_equal(mask, np.where(area_of(kind), GRAIN, 0))


def test_a_magic_wand_gives_brush_strokes():
    pair = [region("magicwand", painted(AREA), None), region("labels", painted(AREA), "grain")]
    assert np.array_equal(classes_of(*pair), np.where(AREA, GRAIN, 0))
    pair = [region("magicwand", painted(AREA), None), region("brushlabels", painted(AREA), "grain")]
    assert np.array_equal(classes_of(*pair), np.where(AREA, GRAIN, 0))


def test_pairs_of_several_regions_do_not_mix():
    other = box(0, 20, 5, 25)
    results = [
        region("brush", painted(AREA), None, id="a"),
        region("brush", painted(other), None, id="b"),
        region("labels", painted(other), "grain", id="b"),
        region("labels", painted(AREA), "pore", id="a"),
    ]
    assert np.array_equal(classes_of(*results), np.where(AREA, PORE, np.where(other, GRAIN, 0)))


def test_complete_regions_that_share_an_id_are_all_painted():
    other = box(0, 20, 5, 25)
    results = [region("brushlabels", painted(AREA)), region("brushlabels", painted(other), "grain")]
    assert np.array_equal(classes_of(*results), np.where(AREA, PORE, np.where(other, GRAIN, 0)))


def test_half_covered_pixels_of_an_anti_aliased_stroke_count_and_fainter_ones_do_not():
    alpha = np.zeros(SHAPE, np.uint8)
    alpha[10, :6] = [0, 1, 127, 128, 200, 255]
    stream = brush.encode_rle(np.repeat(alpha.ravel(), 4))
    mask = classes_of(region("brushlabels", {"format": "rle", "rle": stream}))
    assert mask[10, :6].tolist() == [0, 0, 0, PORE, PORE, PORE]
    assert np.count_nonzero(mask) == 3


def test_later_regions_win_over_earlier_ones():
    first, second = box(5, 5, 20, 20), box(10, 10, 30, 25)
    results = [region("brushlabels", painted(first)), region("brushlabels", painted(second), "grain")]
    expected = np.where(second, GRAIN, np.where(first, PORE, 0))
    assert np.array_equal(classes_of(*results), expected)


def test_unlabelled_pixels_are_what_the_config_says():
    assert (classes_of() == 0).all()
    mask = classes_of(region("brushlabels", painted(AREA)), config=WITH_BACKGROUND)
    assert np.array_equal(mask, np.where(AREA, 0, IGNORE))


def test_of_several_labels_the_first_known_one_counts():
    several = region("brushlabels", {**painted(AREA), "brushlabels": ["void", "grain", "pore"]}, None)
    assert np.array_equal(classes_of(several), np.where(AREA, GRAIN, 0))


def test_labels_are_found_by_alias_and_by_value():
    config = LabelConfig.parse(
        '<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i">'
        '<Label value="Gas pore" alias="pore"/></BrushLabels></View>'
    )
    for label in ("pore", "Gas pore"):
        mask = classes_of(region("brushlabels", painted(AREA), label), config=config)
        assert np.array_equal(mask, np.where(AREA, PORE, 0))


def test_what_covers_no_pixels_is_passed_over_in_silence():
    classes_of(
        region("choices", {"choices": ["sharp"]}, None),
        region("choices", {**painted(AREA), "choices": ["sharp"]}, None, id="per-region"),
        region("textarea", {"text": ["hello"]}, None),
        region("keypointlabels", {"x": 5, "y": 5, "width": 0.4}),
        region("labels", {"start": 0, "end": 3}, "noun", to_name="text"),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
    )


GOOD = region("brushlabels", painted(AREA), id="good")


def problem_with(result: Any) -> tuple[str, np.ndarray]:
    """The one problem with a result that stands before a good one, and the mask of both."""
    decoded = masks_from_results([result, GOOD], CONFIG, SIZE)
    (problem,) = decoded.problems
    assert problem.endswith(".")
    assert "\n" not in problem
    return problem, decoded.mask


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (region("brushlabels", painted(AREA), original_width=80), "80 × 30 px, but this one has 40 × 30"),
        (region("brushlabels", painted(AREA), image_rotation=90), "turned"),
        (region("brushlabels", painted(np.ones((3, 3)))), "of 9 px, but the image has 1200"),
        (region("brushlabels", {"format": "rle", "rle": [0, 0]}), "brush format"),
        (region("brushlabels", {"format": "rle"}), "RLE is missing"),
        (region("bitmasklabels", {"imageDataURL": "http://x"}), "imageDataURL"),
        (region("bitmasklabels", {"imageDataURL": bitmask.encode(np.ones((5, 4)))}), "4 × 5 px"),
        (region("polygonlabels", {"points": [[1, 1], [2]]}), "points"),
        (region("rectanglelabels", {"x": 1, "y": 1, "width": None, "height": 5}), "width"),
        (region("ellipselabels", {"x": 1, "y": 1, "radiusX": float("nan"), "radiusY": 5}), "radiusX"),
        (region("vectorlabels", {"vertices": []}), "Result 1 (vectorlabels)"),
        (region("hologramlabels", {}), "hologramlabels"),
        (region("labels", {}), "no shape"),
        ({**region("brushlabels", {}), "value": None}, "no value"),
        ({"id": "x"}, "no region"),
        (None, "no region"),
        ("brushlabels", "no region"),
        ({"type": 5}, "no region"),
        ({"type": "two\nlines", "value": {}}, "(two lines)"),
        (region("brushlabels", {}, id="two\nlines"), "Region two lines"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_said_and_the_others_are_painted(result, said):
    """Where it was nobody knows, so that nothing else may be taken for background."""
    problem, mask = problem_with(result)
    assert said in problem
    assert np.array_equal(mask, np.where(AREA, PORE, IGNORE))


@pytest.mark.parametrize(
    ("label", "said"), [("void", "'void', which the label config does not have"), (None, "no label")]
)
def test_pixels_of_an_unknown_class_are_ignored_and_said(label, said):
    elsewhere = box(0, 0, 8, 5)
    problem, mask = problem_with(region("brushlabels", painted(elsewhere), label))
    assert said in problem
    assert "Region r1 (brushlabels)" in problem
    assert np.array_equal(mask, np.where(AREA, PORE, np.where(elsewhere, IGNORE, 0)))


@pytest.mark.parametrize("results", [None, {}, "[]", 7, {"result": []}])
def test_a_result_that_is_no_list_is_said(results):
    decoded = masks_from_results(results, CONFIG, SIZE)
    assert len(decoded.problems) == 1
    assert (decoded.mask == IGNORE).all()


def test_the_size_may_be_missing_where_it_is_not_needed():
    bare = {"type": "polygonlabels", "value": {**VALUES["polygon"], "polygonlabels": ["pore"]}}
    assert np.array_equal(classes_of(bare), np.where(AREA, PORE, 0))


def test_reading_and_writing_regions_needs_neither_torch_nor_the_sdk():
    heavy = "{'torch', 'label_studio_sdk', 'label_studio_ml', 'albumentations'}"
    check = f"import sys, srpu_backend.regions; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
SHAPE_KEYS = ["rle", "imageDataURL", "points", "x", "y", "width", "height", "radiusX", "radiusY", "rotation"]
broken_values = st.fixed_dictionaries(
    {}, optional=dict.fromkeys([*SHAPE_KEYS, "labels", "brushlabels", "polygonlabels"], json_values)
)
broken_results = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "type": json_values
        | st.sampled_from(
            ["labels", "brush", "magicwand", "choices", *VALUES, *(f"{k}labels" for k in VALUES)]
        ),
        "value": json_values | broken_values,
        "original_width": json_values | st.just(WIDTH),
        "original_height": json_values | st.just(HEIGHT),
        "image_rotation": json_values | st.just(0),
        "to_name": json_values,
    },
)


@settings(max_examples=400, deadline=None)
@given(st.lists(broken_results | json_values, max_size=5))
def test_nothing_a_person_can_import_raises_or_harms_a_good_region(results):
    decoded = masks_from_results([*copy.deepcopy(results), {**GOOD, "id": "unlike any other"}], CONFIG, SIZE)
    assert decoded.mask.shape == SHAPE
    assert (decoded.mask[AREA] == PORE).all()
