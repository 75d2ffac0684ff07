"""Labelling interfaces: what is read from them, and what is said of those that cannot be served."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srpu_backend.label_config import DEFAULT_MAX_REGIONS, BadLabelConfig, LabelConfig

pytestmark = pytest.mark.fast

IMAGE = '<Image name="image" value="$image"/>'
LABELS = '<Label value="pore" background="#ff0000"/><Label value="grain"/>'


def config(*tags: str, image: str = IMAGE) -> LabelConfig:
    return LabelConfig.parse(f"<View>{image}{''.join(tags)}</View>")


def control(tag: str, name: str = "", attributes: str = "", labels: str = LABELS) -> str:
    return f'<{tag} name="{name or tag.lower()}" toName="image" {attributes}>{labels}</{tag}>'


def names(parsed: LabelConfig) -> list[str]:
    return [info.name for info in parsed.classes]


def refusal(xml: str) -> str:
    with pytest.raises(BadLabelConfig) as caught:
        LabelConfig.parse(xml)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("BrushLabels", "brush"),
        ("BitmaskLabels", "bitmask"),
        ("PolygonLabels", "polygon"),
    ],
)
def test_each_tag_that_draws_masks_is_answered_with(tag, kind):
    parsed = config(control(tag))
    assert parsed.answer is not None
    assert (parsed.answer.name, parsed.answer.type, parsed.answer.kind) == (tag.lower(), tag.lower(), kind)
    assert parsed.answer.labels == ("pore", "grain")
    assert not parsed.answer.is_paired
    assert (parsed.image_name, parsed.image_field) == ("image", "image")
    assert parsed.notes == ()


@pytest.mark.parametrize(
    ("tag", "kind"),
    [("Brush", "brush"), ("Bitmask", "bitmask"), ("Polygon", "polygon"), ("MagicWand", "brush")],
)
def test_plain_tags_take_their_classes_from_a_labels_tag(tag, kind):
    parsed = config(control("Labels"), control(tag, labels=""))
    assert names(parsed) == ["background", "pore", "grain"]
    assert parsed.answer is not None
    assert (parsed.answer.type, parsed.answer.kind, parsed.answer.is_paired) == (tag.lower(), kind, True)
    assert parsed.answer.labels == ("pore", "grain")
    labels_tag = parsed.labels_tag("grain")
    assert labels_tag is not None
    assert labels_tag.name == "labels"


def test_classes_and_colours_come_in_the_order_of_the_config():
    parsed = config(control("BrushLabels"))
    assert names(parsed) == ["background", "pore", "grain"]
    assert [info.implicit for info in parsed.classes] == [True, False, False]
    assert parsed.classes[1].color == "#ff0000"


def test_colours_that_are_not_given_are_distinct_from_all_others():
    own = '<Label value="own" background="#E6194B"/>'
    many = own + "".join(f'<Label value="{number}"/>' for number in range(11))
    colors = [info.color.lower() for info in config(control("BrushLabels", labels=many)).classes]
    assert len(set(colors)) == 13


def test_the_same_label_in_two_controls_is_one_class():
    parsed = config(
        control("BrushLabels"),
        control("PolygonLabels", labels='<Label value="grain" background="#00ff00"/><Label value="crack"/>'),
    )
    assert names(parsed) == ["background", "pore", "grain", "crack"]
    assert parsed.classes[2].color == "#00ff00"


def test_labels_may_be_nested_in_views_and_tags_written_in_any_case():
    xml = (
        '<view><style>.a {}</style><IMAGE Name="i" VALUE="$img"/>'
        '<brushlabels NAME="b" toname="i"><View><Header value="Phases"/><LABEL Value="a"/></View>'
        '<Label value="b"/></brushlabels></view>'
    )
    parsed = LabelConfig.parse(xml)
    assert names(parsed) == ["background", "a", "b"]
    assert (parsed.image_name, parsed.image_field) == ("i", "img")


def test_a_class_is_called_by_its_alias_as_results_call_it_and_found_by_its_value_too():
    labels = '<Label value="Gas pore" alias="pore"/><Label value="grain"/>'
    parsed = config(control("BrushLabels", labels=labels))
    assert names(parsed) == ["background", "pore", "grain"]
    assert parsed.index_of("pore") == parsed.index_of("Gas pore") == 1
    assert parsed.index_of("background") is None
    assert parsed.index_of("void") is None


def test_labels_without_value_are_no_classes():
    parsed = config(control("BrushLabels", labels='<Label value="a"/><Label background="red"/>'))
    assert names(parsed) == ["background", "a"]


def test_tags_that_mark_other_things_do_no_harm():
    parsed = config(
        '<Header value="Hello"/><Text name="text" value="$caption"/>',
        '<Labels name="spans" toName="text"><Label value="noun"/></Labels>',
        '<Choices name="quality" toName="image"><Choice value="sharp"/></Choices>',
        '<KeyPointLabels name="kp" toName="image"><Label value="hint"/></KeyPointLabels>',
        control("BrushLabels"),
    )
    assert names(parsed) == ["background", "pore", "grain"]
    assert [c.name for c in parsed.controls] == ["brushlabels"]


class TestBackground:
    @pytest.mark.parametrize("name", ["background", "Background", "BG", "bg"])
    def test_a_label_of_that_name_is_the_background_and_unlabelled_is_ignore(self, name):
        labels = f'<Label value="pore"/><Label value="{name}"/>'
        parsed = config(control("BrushLabels", labels=labels))
        assert names(parsed) == ["pore", name]
        assert (parsed.background, parsed.unlabelled) == (1, "ignore")
        assert not any(info.implicit for info in parsed.classes)

    def test_any_label_may_be_marked_as_the_background(self):
        labels = '<Label value="bg"/><Label value="matrix" model_background="true"/>'
        parsed = config(control("BrushLabels", labels=labels))
        assert (parsed.classes[parsed.background].name, parsed.unlabelled) == ("matrix", "ignore")

    def test_without_such_a_label_it_is_implicit_and_unlabelled_is_background(self):
        parsed = config(control("BrushLabels"))
        assert (parsed.background, parsed.unlabelled) == (0, "background")
        assert parsed.classes[0].implicit

    @pytest.mark.parametrize("said", ["ignore", "background"])
    @pytest.mark.parametrize("labels", [LABELS, LABELS + '<Label value="bg"/>'])
    def test_the_config_may_say_what_unlabelled_pixels_are(self, said, labels):
        parsed = config(control("BrushLabels", attributes=f'model_unlabeled="{said}"', labels=labels))
        assert parsed.unlabelled == said

    def test_two_backgrounds_are_refused(self):
        labels = '<Label value="bg"/><Label value="background"/>'
        message = refusal(f"<View>{IMAGE}{control('BrushLabels', labels=labels)}</View>")
        assert "bg and background" in message
        assert 'model_background="true"' in message


class TestAnswer:
    @pytest.mark.parametrize(
        ("tags", "expected"),
        [
            (("PolygonLabels", "BrushLabels", "BitmaskLabels"), "bitmasklabels"),
            (("RectangleLabels", "PolygonLabels", "BrushLabels"), "brushlabels"),
            (("EllipseLabels", "RectangleLabels", "PolygonLabels"), "polygonlabels"),
        ],
    )
    def test_bitmask_comes_before_brush_before_polygon(self, tags, expected):
        parsed = config(*map(control, tags))
        assert parsed.answer is not None
        assert parsed.answer.type == expected

    def test_a_brush_comes_before_a_magic_wand(self):
        plain = [control(tag, labels="") for tag in ("MagicWand", "Brush", "Polygon")]
        parsed = config(control("Labels"), *plain)
        assert parsed.answer is not None
        assert parsed.answer.type == "brush"

    def test_a_plain_tag_without_labels_for_it_does_not_answer(self):
        parsed = config(control("Bitmask", labels=""), control("BrushLabels"))
        assert parsed.answer is not None
        assert parsed.answer.type == "brushlabels"

    def test_the_config_may_say_which(self):
        parsed = config(control("BitmaskLabels"), control("PolygonLabels", attributes='model_answer="true"'))
        assert parsed.answer is not None
        assert parsed.answer.type == "polygonlabels"

    def test_boxes_and_ellipses_are_learnt_from_but_not_answered_with(self):
        parsed = config(control("RectangleLabels"), control("EllipseLabels"))
        assert parsed.answer is None
        assert parsed.writer("pore") is None
        assert "cannot draw masks" in parsed.notes[0]
        assert "BrushLabels" in parsed.notes[0]

    def test_a_class_that_the_answering_tag_lacks_is_written_with_the_next_best(self):
        parsed = config(
            control("BrushLabels"),
            control("PolygonLabels", labels='<Label value="crack"/>'),
            control("RectangleLabels", labels='<Label value="box"/>'),
        )
        writers = {name: parsed.writer(name) for name in ("pore", "crack", "box")}
        assert {name: writer and writer.type for name, writer in writers.items()} == {
            "pore": "brushlabels",
            "crack": "polygonlabels",
            "box": None,
        }
        assert "box" in parsed.notes[0]

    @pytest.mark.parametrize("tag", ["RectangleLabels", "Polygon"])
    def test_a_tag_that_cannot_answer_may_not_be_asked_to(self, tag):
        asked = control(tag, attributes='model_answer="true"', labels=LABELS if tag.endswith("s") else "")
        message = refusal(f"<View>{IMAGE}{control('BrushLabels')}{asked}</View>")
        assert f'"{tag.lower()}" has model_answer="true"' in message

    def test_only_one_tag_may_be_asked_to_answer(self):
        asked = [control(tag, attributes='model_answer="true"') for tag in ("BrushLabels", "PolygonLabels")]
        assert "leave it on one tag" in refusal(f"<View>{IMAGE}{''.join(asked)}</View>")


class TestParameters:
    def test_model_attributes_are_collected_and_those_of_the_answering_tag_win(self):
        parsed = config(
            control("BrushLabels", attributes='model_encoder="resnet18" model_Path="x" smart="true"'),
            control("PolygonLabels", attributes='model_encoder="resnet50" model_other="1"'),
        )
        assert parsed.parameters == {"model_encoder": "resnet18", "model_path": "x", "model_other": "1"}

    def test_instances_and_their_cap_are_off_and_200_unless_said(self):
        parsed = config(control("PolygonLabels"))
        assert (parsed.instances, parsed.max_regions) == (False, DEFAULT_MAX_REGIONS)
        said = config(control("PolygonLabels", attributes='model_instances="True" model_max_regions="12"'))
        assert (said.instances, said.max_regions) == (True, 12)

    @pytest.mark.parametrize(
        "attribute",
        ['model_instances="yes"', 'model_max_regions="0"', 'model_max_regions="many"', 'model_answer="1"',
         'model_unlabeled="unknown"'],
    )  # fmt: skip
    def test_values_that_mean_nothing_are_refused_by_name(self, attribute):
        message = refusal(f"<View>{IMAGE}{control('PolygonLabels', attributes=attribute)}</View>")
        assert attribute.split("=")[0] in message


BRUSH = control("BrushLabels")
BAD = {
    "empty": ("", "empty"),
    "blank": ("  \n", "empty"),
    "broken": (f"<View>{IMAGE}{BRUSH}", "no valid XML"),
    "text": ("just text", "no valid XML"),
    "entity": (f"<View>{IMAGE}&lol;{BRUSH}</View>", "no valid XML"),
    "no image": (f"<View>{BRUSH}</View>", 'add <Image name="image" value="$image"/>'),
    "video": (f'<View><Video name="image" value="$v"/>{BRUSH}</View>', "only <Video>"),
    "paragraphs": ('<View><Paragraphs name="p" value="$p"/></View>', "only <Paragraphs>"),
    "two images": (
        f'<View>{IMAGE}<Image name="b" value="$b"/>{BRUSH}</View>',
        '2 <Image> tags ("image", "b"): keep one',
    ),
    "image without name": (f'<View><Image value="$image"/>{BRUSH}</View>', "no name"),
    "image list": (f'<View><Image name="image" valueList="$images"/>{BRUSH}</View>', "valueList"),
    "image url": (f'<View><Image name="image" value="http://x/y.png"/>{BRUSH}</View>', "http://x/y.png"),
    "image without value": (f'<View><Image name="image"/>{BRUSH}</View>', 'value="$image"'),
    "nothing to draw with": (f"<View>{IMAGE}</View>", "add <BrushLabels"),
    "only choices": (
        f'<View>{IMAGE}<Choices name="c" toName="image"><Choice value="a"/></Choices></View>',
        "add <BrushLabels",
    ),
    "only keypoints": (f"<View>{IMAGE}{control('KeyPointLabels')}</View>", "keypoints"),
    "only labels": (f"<View>{IMAGE}{control('Labels')}</View>", "no tag that marks areas"),
    "no classes": (f"<View>{IMAGE}{control('BrushLabels', labels='')}</View>", '"brushlabels" has no labels'),
    "labels inside a plain tag": (f"<View>{IMAGE}{control('Brush')}</View>", '"brush" has no labels'),
    "labels from the task": (
        f"<View>{IMAGE}<BrushLabels name='b' toName='image' value='$classes'/></View>",
        "come from the tasks",
    ),
    "duplicate names": (
        f"<View>{IMAGE}{BRUSH}{control('PolygonLabels', name='brushlabels')}</View>",
        'name="brushlabels": rename',
    ),
    "no toName": (f"<View>{IMAGE}<BrushLabels name='b'>{LABELS}</BrushLabels></View>", 'toName="image"'),
    "toName of nothing": (
        f"<View>{IMAGE}<BrushLabels name='b' toName='img'>{LABELS}</BrushLabels></View>",
        'toName="image"',
    ),
    "only background": (
        f"<View>{IMAGE}" + control("BrushLabels", labels='<Label value="bg"/>') + "</View>",
        '"bg" is the only label',
    ),
    "too many classes": (
        f"<View>{IMAGE}"
        + control("BrushLabels", labels="".join(f'<Label value="{i}"/>' for i in range(255)))
        + "</View>",
        "255 labels",
    ),
    "too long": (f"<View>{IMAGE}{BRUSH}{' ' * 2**20}</View>", "characters"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_config_that_cannot_be_served_is_refused_with_what_to_change(what):
    xml, said = BAD[what]
    assert said in refusal(xml)


def test_254_labels_are_served():
    labels = "".join(f'<Label value="{i}"/>' for i in range(254))
    assert len(config(control("BrushLabels", labels=labels)).classes) == 255


class TestUnsafeXml:
    def test_billion_laughs_are_not_expanded(self):
        entities = '<!ENTITY a "lol">' + "".join(
            f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
        )
        assert "<!DOCTYPE" in refusal(f"<!DOCTYPE View [{entities}]><View>{IMAGE}&j;{BRUSH}</View>")

    def test_external_entities_are_not_fetched(self, tmp_path):
        secret = tmp_path / "secret"
        secret.write_text("token")
        doctype = f'<!DOCTYPE View [<!ENTITY x SYSTEM "file://{secret}">]>'
        message = refusal(f"{doctype}<View>{IMAGE}&x;{BRUSH}</View>")
        assert "<!DOCTYPE" in message
        assert "token" not in message

    def test_an_external_dtd_is_refused(self):
        assert "<!DOCTYPE" in refusal(f'<!DOCTYPE View SYSTEM "http://x/y.dtd"><View>{IMAGE}{BRUSH}</View>')

    def test_a_declaration_of_another_encoding_changes_nothing(self):
        xml = f'<?xml version="1.0" encoding="utf-16"?><View>{IMAGE}{BRUSH}</View>'
        assert names(LabelConfig.parse(xml)) == ["background", "pore", "grain"]

    def test_depth_is_no_danger(self):
        xml = "<View>" * 80_000 + IMAGE + BRUSH + "</View>" * 80_000
        assert names(LabelConfig.parse(xml)) == ["background", "pore", "grain"]


def test_the_example_in_the_docs_is_served():
    text = (Path(__file__).parents[2] / "docs" / "label-configs.md").read_text(encoding="utf-8")
    parsed = LabelConfig.parse(text.split("```xml")[1].split("```")[0])
    assert names(parsed) == ["background", "pore", "precipitate"]
    assert parsed.answer is not None
    assert parsed.answer.kind == "bitmask"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.integers(0, 400))
def test_any_text_is_parsed_or_refused_and_nothing_else(noise, at):
    xml = f"<View>{IMAGE}{BRUSH}{control('Labels', name='l')}</View>"
    for candidate in (noise, xml[:at] + noise + xml[at:], xml[:at] + noise):
        try:
            LabelConfig.parse(candidate)
        except BadLabelConfig as error:
            assert str(error)
