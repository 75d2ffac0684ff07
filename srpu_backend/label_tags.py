"""The XML of a labelling interface: its image, its tags that mark areas, and their labels.

Tags and attributes are read as Label Studio's editor reads them, without regard to case.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from model_zoo.errors import SRPUError

Kind = Literal["bitmask", "brush", "polygon", "rectangle", "ellipse", "labels"]

MAX_CHARACTERS = 2**20

KIND_OF_TAG: dict[str, Kind] = {
    "bitmasklabels": "bitmask",
    "bitmask": "bitmask",
    "brushlabels": "brush",
    "brush": "brush",
    "magicwand": "brush",
    "polygonlabels": "polygon",
    "polygon": "polygon",
    "rectanglelabels": "rectangle",
    "rectangle": "rectangle",
    "ellipselabels": "ellipse",
    "ellipse": "ellipse",
    "labels": "labels",
}
"""In the order in which we like to answer with them."""
_IMAGE_FIELD = re.compile(r"\$(\w+)")
_OTHER_OBJECTS = ("video", "audio", "audioplus", "text", "hypertext", "paragraphs", "timeseries", "pdf")
EXAMPLE = '<BrushLabels name="brush" toName="image"> with a <Label value="…"/> for each class'


class BadLabelConfig(SRPUError):
    """A label config that cannot be served; the message says what to change."""


@dataclass(frozen=True)
class Label:
    """A `<Label>`."""

    name: str
    """What results carry: the alias, else the value."""
    also: str
    """The other of the two; Label Studio's editor finds labels by either."""
    color: str
    """As written, empty when it is not."""
    is_background: bool


@dataclass(frozen=True)
class Tag:
    """A tag that draws or names regions on the image."""

    name: str
    type: str
    """The tag in lower case, which is also the type of its results."""
    attributes: Mapping[str, str]
    """Names in lower case."""
    labels: tuple[Label, ...]

    @property
    def kind(self) -> Kind:
        """What it draws; `labels` for a tag that names what others draw."""
        return KIND_OF_TAG[self.type]

    def __str__(self) -> str:
        return f'"{self.name}"'


class _NoDoctype(ET.TreeBuilder):
    """Refuses a document type before any entity of it is defined, let alone expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadLabelConfig("The label config has a <!DOCTYPE …>, which is not allowed: remove it.")


def read_xml(xml: str) -> ET.Element:
    """The root of a label config; raises `BadLabelConfig` for what is empty, too long, broken or unsafe."""
    if not isinstance(xml, str) or not xml.strip():
        raise BadLabelConfig(
            f"The label config is empty: under Settings → Labeling Interface add an <Image> and {EXAMPLE}."
        )
    if len(xml) > MAX_CHARACTERS:
        raise BadLabelConfig(
            f"The label config has {len(xml)} characters, more than the {MAX_CHARACTERS} allowed: shorten it."
        )
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - without a doctype there are no entities
    try:
        parser.feed(xml.strip())
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError) as error:
        raise BadLabelConfig(f"The label config is no valid XML ({error}): correct it there.") from None
    return root


def tag_name(element: ET.Element) -> str:
    """In lower case."""
    return str(element.tag).lower()


def attributes_of(element: ET.Element) -> dict[str, str]:
    """Names in lower case."""
    return {name.lower(): value for name, value in element.attrib.items()}


def check_names(root: ET.Element) -> None:
    """Raise `BadLabelConfig` when two tags have the same name."""
    seen: set[str] = set()
    for element in root.iter():
        name = attributes_of(element).get("name")
        if name is None:
            continue
        if name in seen:
            raise BadLabelConfig(f'Two tags of the label config have name="{name}": rename one of them.')
        seen.add(name)


def find_image(root: ET.Element) -> tuple[str, str]:
    """Name of the image tag and the task field it shows; raises `BadLabelConfig`."""
    image = _only_image(root)
    if not image.get("name"):
        raise BadLabelConfig('The <Image> tag has no name: write <Image name="image" value="$image"/>.')
    if "valuelist" in image:
        raise BadLabelConfig(
            "The <Image> tag shows a list of images (valueList), but a task must be one image: "
            'write value="$image".'
        )
    match = _IMAGE_FIELD.fullmatch(image.get("value", ""))
    if match is None:
        raise BadLabelConfig(
            f'The <Image> tag has value="{image.get("value", "")}", but it must name one field of the task: '
            'write value="$image".'
        )
    return image["name"], match[1]


def _only_image(root: ET.Element) -> dict[str, str]:
    """Attributes of the image tag."""
    images = [attributes_of(element) for element in root.iter() if tag_name(element) == "image"]
    if not images:
        others = sorted({str(e.tag) for e in root.iter() if tag_name(e) in _OTHER_OBJECTS})
        instead = f", only {' and '.join(f'<{tag}>' for tag in others)}" if others else ""
        raise BadLabelConfig(
            f"The label config has no <Image> tag{instead}, and SRPU segments images: "
            'add <Image name="image" value="$image"/>.'
        )
    if len(images) > 1:
        names = ", ".join(f'"{image.get("name", "?")}"' for image in images)
        raise BadLabelConfig(
            f"The label config has {len(images)} <Image> tags ({names}): keep one, the one to segment."
        )
    return images[0]


def find_tags(root: ET.Element, image_name: str) -> Iterator[Tag]:
    """The tags that draw or name regions on the image; raises `BadLabelConfig` for stray ones."""
    names = {attributes_of(element).get("name") for element in root.iter()}
    for element in root.iter():
        type, attributes = tag_name(element), attributes_of(element)
        if type not in KIND_OF_TAG:
            continue
        name = attributes.get("name")
        targets = [target.strip() for target in attributes.get("toname", "").split(",")]
        if not name or not names.issuperset(targets):
            raise BadLabelConfig(
                f'The <{element.tag}> tag must have a name and toName="{image_name}": correct it.'
            )
        if image_name in targets:
            yield Tag(name, type, attributes, tuple(_labels(element)))


def _labels(element: ET.Element) -> Iterator[Label]:
    if not tag_name(element).endswith("labels"):
        return  # the editor knows no labels inside a plain tag such as <Brush>
    for child in element.iter():
        if tag_name(child) != "label":
            continue
        attributes = attributes_of(child)
        value, alias = attributes.get("value", ""), attributes.get("alias", "")
        if not value and not alias:
            continue  # what allowEmpty shows as "no label"
        flagged = flag(attributes.get("model_background", "false"), "model_background")
        yield Label(alias or value, value, attributes.get("background", ""), flagged)


def flag(text: str, name: str) -> bool:
    """The value of an attribute that is true or false; raises `BadLabelConfig` for anything else."""
    if text.strip().lower() not in ("true", "false"):
        raise BadLabelConfig(f'{name}="{text}" must be "true" or "false": correct it.')
    return text.strip().lower() == "true"
