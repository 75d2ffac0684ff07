"""A model's masks as regions."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.label_interface import LabelInterface

from model_zoo.card import ClassInfo
from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import encode_mask, masks_from_results, remap, results_from_mask

pytestmark = pytest.mark.fast

IGNORE = 255
LABELS = '<Label value="pore"/><Label value="grain"/>'
BACKGROUND = LABELS + '<Label value="background"/>'


def xml_of(tag: str, labels: str = LABELS, attributes: str = "") -> str:
    image = '<Image name="image" value="$image"/>'
    if tag.endswith("Labels"):
        return f'<View>{image}<{tag} name="draw" toName="image" {attributes}>{labels}</{tag}></View>'
    shared = f'<Labels name="label" toName="image">{labels}</Labels>'
    return f'<View>{image}{shared}<{tag} name="draw" toName="image" {attributes}/></View>'


def config_of(tag: str, labels: str = LABELS, attributes: str = "") -> LabelConfig:
    return LabelConfig.parse(xml_of(tag, labels, attributes))


def read_back(results: list[dict], config: LabelConfig, shape: tuple[int, int]) -> np.ndarray:
    decoded = masks_from_results(json.loads(json.dumps(results)), config, (shape[1], shape[0]))
    assert decoded.problems == ()
    return decoded.mask


def class_maps(*values: int) -> st.SearchStrategy[np.ndarray]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
    return hnp.arrays(np.uint8, shapes, elements=st.sampled_from(values))


def blobs(shape: tuple[int, int] = (200, 260)) -> np.ndarray:
    noise = np.random.default_rng(4).random(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 9)
    return np.digitize(smooth, np.quantile(smooth, [0.5, 0.8])).astype(np.uint8)


EXACT_TAGS = ["BrushLabels", "BitmaskLabels", "Brush", "Bitmask", "MagicWand"]
TAGS = [*EXACT_TAGS, "PolygonLabels", "Polygon"]


@pytest.mark.parametrize("tag", EXACT_TAGS)
class TestRoundTrip:
    @settings(max_examples=50, deadline=None)
    @given(class_map=class_maps(0, 1, 2))
    def test_any_class_map_comes_back_exactly(self, tag, class_map):
        config = config_of(tag)
        assert np.array_equal(
            read_back(results_from_mask(class_map, config), config, class_map.shape), class_map
        )

    @settings(max_examples=50, deadline=None)
    @given(class_map=class_maps(0, 1, 2, IGNORE))
    def test_with_a_background_of_its_own_even_what_is_ignored_comes_back(self, tag, class_map):
        config = config_of(tag, BACKGROUND)
        assert np.array_equal(
            read_back(results_from_mask(class_map, config), config, class_map.shape), class_map
        )


@pytest.mark.parametrize("attributes", ["", 'model_instances="true"'])
@pytest.mark.parametrize("tag", ["PolygonLabels", "Polygon"])
def test_polygons_come_back_nearly(tag, attributes):
    config = config_of(tag, attributes=attributes)
    class_map = blobs()
    mask = read_back(results_from_mask(class_map, config), config, class_map.shape)
    for index in (0, 1, 2):
        one, other = mask == index, class_map == index
        assert (one & other).sum() / (one | other).sum() > 0.95


@pytest.mark.parametrize("labels", [LABELS, BACKGROUND])
@pytest.mark.parametrize("tag", TAGS)
def test_label_studio_accepts_what_we_write(tag, labels):
    xml = xml_of(tag, labels)
    results = results_from_mask(blobs(), LabelConfig.parse(xml), {"pore": 0.6, "grain": 0.7})
    prediction = {"result": results, "score": 0.5, "model_version": "v0001-abcdef"}
    assert LabelInterface(xml).validate_prediction(prediction, return_errors=True) == []


def test_a_region_has_the_shape_of_the_editors_own():
    class_map = np.zeros((6, 8), np.uint8)
    class_map[2:4, 3:5] = 1
    (result,) = results_from_mask(class_map, config_of("BrushLabels"), {"pore": 0.25})
    assert result.pop("id").isalnum()
    assert result.pop("value").keys() == {"format", "rle", "brushlabels"}
    assert result == {
        "type": "brushlabels",
        "from_name": "draw",
        "to_name": "image",
        "original_width": 8,
        "original_height": 6,
        "image_rotation": 0,
        "score": 0.25,
    }


def test_a_paired_region_has_two_results_that_share_id_and_shape():
    shape, label = results_from_mask(np.ones((6, 8), np.uint8), config_of("Brush"))
    assert shape["id"] == label["id"]
    assert (shape["type"], shape["from_name"]) == ("brush", "draw")
    assert (label["type"], label["from_name"]) == ("labels", "label")
    assert label["value"] == {**shape["value"], "labels": ["pore"]}
    assert "score" not in shape


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_there_is_one_region_per_class_in_the_order_of_the_config(tag):
    results = results_from_mask(blobs(), config_of(tag))
    assert [result["value"][tag.lower()] for result in results] == [["pore"], ["grain"]]


def test_a_background_of_its_own_comes_first_and_an_implicit_one_not_at_all():
    class_map = np.array([[0, 1, 2]], np.uint8)
    explicit = results_from_mask(class_map, config_of("BrushLabels", BACKGROUND))
    assert [r["value"]["brushlabels"][0] for r in explicit] == ["background", "pore", "grain"]
    implicit = results_from_mask(class_map, config_of("BrushLabels"))
    assert [r["value"]["brushlabels"][0] for r in implicit] == ["pore", "grain"]


def test_classes_that_are_not_there_are_not_written():
    assert results_from_mask(np.zeros((4, 5), np.uint8), config_of("BrushLabels")) == []
    assert results_from_mask(np.full((4, 5), IGNORE, np.uint8), config_of("BrushLabels", BACKGROUND)) == []


def test_each_class_is_written_with_a_control_that_offers_it():
    config = LabelConfig.parse(
        '<View><Image name="image" value="$image"/>'
        f'<BrushLabels name="brush" toName="image">{LABELS}</BrushLabels>'
        '<PolygonLabels name="poly" toName="image"><Label value="crack"/></PolygonLabels>'
        '<RectangleLabels name="rect" toName="image"><Label value="box"/></RectangleLabels></View>'
    )
    class_map = np.zeros((20, 50), np.uint8)
    for index in (1, 3, 4):
        class_map[5:15, 10 * index : 10 * index + 8] = index
    results = results_from_mask(class_map, config)
    assert [(r["type"], r["from_name"]) for r in results] == [
        ("brushlabels", "brush"),
        ("polygonlabels", "poly"),
    ]
    expected = np.where(class_map == 4, 0, class_map)
    assert np.array_equal(read_back(results, config, class_map.shape), expected)


def test_a_config_of_boxes_gets_no_regions():
    assert results_from_mask(np.ones((4, 5), np.uint8), config_of("RectangleLabels")) == []


def test_ids_are_the_same_for_the_same_region_and_differ_among_regions():
    config = config_of("PolygonLabels", attributes='model_instances="true"')
    first, second = (results_from_mask(blobs(), config) for _ in range(2))
    assert first == second
    ids = [result["id"] for result in first]
    assert len(set(ids)) == len(ids)
    assert all(len(id) == 10 for id in ids)


class TestInstances:
    CLASS_MAP = np.zeros((100, 100), np.uint8)
    for _row in range(5):
        for _column in range(5):
            _side = 2 + 2 * _row + _column
            CLASS_MAP[20 * _row : 20 * _row + _side, 20 * _column : 20 * _column + _side] = (
                1 + (_row + _column) % 2
            )

    def test_each_component_is_a_polygon_of_its_own_the_largest_first(self):
        config = config_of("PolygonLabels", attributes='model_instances="true"')
        encoded = encode_mask(self.CLASS_MAP, config)
        assert (len(encoded.results), encoded.dropped) == (25, 0)
        mask = read_back(encoded.results, config, self.CLASS_MAP.shape)
        assert np.array_equal(mask, self.CLASS_MAP)

    @pytest.mark.parametrize("instances", ["true", "false"])
    def test_only_the_largest_are_written_and_the_others_counted(self, instances, caplog):
        attributes = f'model_instances="{instances}" model_max_regions="4"'
        config = config_of("PolygonLabels", attributes=attributes)
        encoded = encode_mask(self.CLASS_MAP, config)
        assert encoded.dropped == 21
        assert len(encoded.results) == (4 if instances == "true" else 2)
        mask = read_back(encoded.results, config, self.CLASS_MAP.shape)
        assert cv2.connectedComponents((mask > 0).astype(np.uint8))[0] - 1 == 4
        assert (mask[80:94, 80:94] == self.CLASS_MAP[80:94, 80:94]).all()
        with caplog.at_level(logging.INFO):
            results_from_mask(self.CLASS_MAP, config)
        assert "21 small areas" in caplog.text
        assert "at most 4" in caplog.text


@pytest.mark.parametrize(
    "class_map",
    [np.zeros((3, 3)), np.zeros((3, 3), np.int64), np.zeros(5, np.uint8), np.zeros((0, 3), np.uint8),
     np.full((3, 3), 3, np.uint8)],
)  # fmt: skip
def test_what_is_no_class_map_of_the_config_is_refused(class_map):
    with pytest.raises(ValueError, match="class map"):
        results_from_mask(class_map, config_of("BrushLabels"))


class TestRemap:
    IMPLICIT = ClassInfo(name="background", implicit=True)

    @staticmethod
    def infos(*names: str) -> list[ClassInfo]:
        return [ClassInfo(name=name) for name in names]

    def test_classes_go_by_name_whatever_their_order(self):
        model = [self.IMPLICIT, *self.infos("grain", "pore")]
        class_map = np.array([[0, 1, 2, IGNORE]], np.uint8)
        assert remap(class_map, model, config_of("BrushLabels")).tolist() == [[0, 2, 1, IGNORE]]

    def test_a_class_that_was_removed_becomes_the_implicit_background(self):
        model = [self.IMPLICIT, *self.infos("void", "pore")]
        assert remap(np.array([[1, 2]], np.uint8), model, config_of("BrushLabels")).tolist() == [[0, 1]]

    def test_a_class_that_was_removed_is_not_called_background_where_that_is_a_label(self):
        model = self.infos("pore", "void", "background")
        config = config_of("BrushLabels", BACKGROUND)
        class_map = np.array([[0, 1, 2]], np.uint8)
        assert remap(class_map, model, config).tolist() == [[0, IGNORE, 2]]
        written = results_from_mask(remap(class_map, model, config), config)
        assert [r["value"]["brushlabels"][0] for r in written] == ["background", "pore"]

    def test_an_implicit_background_becomes_the_label_that_came_later(self):
        model = [self.IMPLICIT, *self.infos("pore")]
        config = config_of("BrushLabels", '<Label value="pore"/><Label value="bg"/>')
        assert remap(np.array([[0, 1]], np.uint8), model, config).tolist() == [[1, 0]]

    def test_a_background_label_that_was_removed_becomes_the_implicit_one(self):
        model = self.infos("pore", "background")
        assert remap(np.array([[0, 1]], np.uint8), model, config_of("BrushLabels")).tolist() == [[1, 0]]

    def test_a_label_that_got_an_alias_is_still_the_same_class(self):
        config = config_of("BrushLabels", '<Label value="pore" alias="p"/>')
        model = [self.IMPLICIT, *self.infos("pore")]
        assert remap(np.array([[0, 1]], np.uint8), model, config).tolist() == [[0, 1]]
