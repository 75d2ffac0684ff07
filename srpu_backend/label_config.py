"""A project's labelling interface: which classes there are, what draws them, what no region means.

What each kind of config gives, and the `model_…` attributes, are told in `docs/label-configs.md`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from model_zoo.card import BACKGROUND_NAMES, ClassInfo
from srpu_backend.label_tags import (
    EXAMPLE,
    KIND_OF_TAG,
    BadLabelConfig,
    Kind,
    Label,
    Tag,
    attributes_of,
    check_names,
    find_image,
    find_tags,
    flag,
    read_xml,
    tag_name,
)

__all__ = ["BadLabelConfig", "Control", "Kind", "LabelConfig", "Unlabelled"]

Unlabelled = Literal["background", "ignore"]

MAX_CLASSES = 255
"""Mask values are uint8 and 255 stands for `ignore`."""
DEFAULT_MAX_REGIONS = 200
"""With about 200 polygons on 2048 × 1536 px the editor takes 13 s to open a task; beyond, it is no help."""

_CANNOT_DRAW_MASKS = ("rectangle", "ellipse", "labels")


# Sasha Trubetskoy, "List of 20 simple, distinct colors" (2017), the light ones last
_COLORS = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324", "#469990",
    "#800000", "#808000", "#000075", "#ffe119", "#bfef45", "#fabed4", "#dcbeff", "#aaffc3", "#ffd8b1",
)  # fmt: skip
_IMPLICIT_BACKGROUND = ClassInfo(name="background", color="#000000", implicit=True)


@dataclass(frozen=True)
class Control:
    """A tag that regions come from."""

    name: str
    """`from_name` of its results."""
    type: str
    """`type` of its results: the tag's name in lower case, such as `brushlabels`."""
    kind: Kind
    labels: tuple[str, ...]
    """The classes it offers; for a tag without labels of its own, those of the `Labels` tags."""

    @property
    def is_paired(self) -> bool:
        """True where a region has two results: its shape from this tag, its class from a `Labels` tag."""
        return not self.type.endswith("labels")


@dataclass(frozen=True)
class LabelConfig:
    """What training and answering need to know of a labelling interface."""

    classes: tuple[ClassInfo, ...]
    """Place = mask value. Order of the config; an implicit background comes first."""
    background: int
    """Index of the background, implicit or not."""
    unlabelled: Unlabelled
    """What a pixel without a region is: `background`, or `ignore` (255, never learnt from)."""
    image_name: str
    """`to_name` of results."""
    image_field: str
    """Field of a task's data that holds the image's reference."""
    controls: tuple[Control, ...]
    answer: Control | None
    """The control predictions are written with; None where no tag can draw a mask."""
    instances: bool = False
    """Polygons: one region per connected component instead of one per class."""
    max_regions: int = DEFAULT_MAX_REGIONS
    """Polygons: at most this many components are written per image, the largest."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """All `model_…` attributes of tags, names in lower case; those of `answer` win."""
    notes: tuple[str, ...] = ()
    """Sentences a person who connects this config should read."""
    indices: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Class index by everything results may call a class: its alias or its value."""

    @classmethod
    def parse(cls, xml: str) -> LabelConfig:
        """Read a labelling interface; raises `BadLabelConfig`, one sentence that says what to change."""
        root = read_xml(xml)
        check_names(root)
        image_name, image_field = find_image(root)
        tags = tuple(find_tags(root, image_name))
        labels = _checked_labels(tags)
        controls = tuple(_controls(tags))
        answer_tag = _answer(tags, controls)
        answer = next((c for c in controls if answer_tag and c.name == answer_tag.name), None)
        parameters = _parameters(root, answer_tag)
        explicit = _explicit_background(labels)
        unlabelled = _unlabelled(tags, explicit)
        classes, background, indices = _classes(labels, explicit)
        _check_learnable(classes, unlabelled)
        return cls(
            classes=classes,
            background=background,
            unlabelled=unlabelled,
            image_name=image_name,
            image_field=image_field,
            controls=controls,
            answer=answer,
            instances=flag(parameters.get("model_instances", "false"), "model_instances"),
            max_regions=_count(parameters.get("model_max_regions"), "model_max_regions"),
            parameters=parameters,
            notes=tuple(_notes(controls, answer, classes)),
            indices=indices,
        )

    def index_of(self, label: str) -> int | None:
        """Mask value of a label as results carry it; None when the config has no such label."""
        return self.indices.get(label)

    def writer(self, name: str) -> Control | None:
        """The control to write a class with: `answer`, or the next best where it lacks that label."""
        return _writer(self.controls, self.answer, name)

    def labels_tag(self, name: str) -> Control | None:
        """The `Labels` tag that offers a class, for the second result of a paired control's region."""
        return next((c for c in self.controls if c.kind == "labels" and name in c.labels), None)


def _checked_labels(tags: Iterable[Tag]) -> tuple[Label, ...]:
    """All labels in order; raises where there are none, or nothing that draws them."""
    tags = tuple(tags)
    labels = tuple(label for tag in tags for label in tag.labels)
    if all(tag.kind == "labels" for tag in tags):
        raise BadLabelConfig(
            f"The label config has no tag that marks areas of the image: add {EXAMPLE} (keypoints and "
            "choices cover no pixels)."
        )
    dynamic = [str(tag) for tag in tags if tag.attributes.get("value", "").startswith("$")]
    if not labels and dynamic:
        raise BadLabelConfig(
            f"The labels of {' and '.join(dynamic)} come from the tasks, so that nobody knows the classes: "
            'write them into the label config, as <Label value="…"/>.'
        )
    if not labels:
        names = " and ".join(map(str, tags))
        raise BadLabelConfig(f"The label config has no classes: {names} has no labels; use {EXAMPLE}.")
    return labels


def _controls(tags: tuple[Tag, ...]) -> Iterator[Control]:
    shared = _names(label for tag in tags if tag.kind == "labels" for label in tag.labels)
    for tag in tags:
        own = _names(tag.labels)
        yield Control(tag.name, tag.type, tag.kind, own if tag.type.endswith("labels") else shared)


def _names(labels: Iterable[Label]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label.name for label in labels))


def _answer(tags: tuple[Tag, ...], controls: tuple[Control, ...]) -> Tag | None:
    asked = [tag for tag in tags if flag(tag.attributes.get("model_answer", "false"), "model_answer")]
    if len(asked) > 1:
        raise BadLabelConfig(
            f'{" and ".join(map(str, asked))} both have model_answer="true": leave it on one tag.'
        )
    able = {c.name for c in controls if c.kind not in _CANNOT_DRAW_MASKS and c.labels}
    if asked and asked[0].name not in able:
        raise BadLabelConfig(
            f'{asked[0]} has model_answer="true" but cannot draw masks of classes: put it on a brush, '
            "bitmask or polygon tag that has labels."
        )
    order = list(KIND_OF_TAG)
    candidates = asked or sorted(
        (tag for tag in tags if tag.name in able), key=lambda tag: order.index(tag.type)
    )
    return candidates[0] if candidates else None


def _writer(controls: Iterable[Control], answer: Control | None, name: str) -> Control | None:
    if answer is None or name in answer.labels:
        return answer
    order = list(KIND_OF_TAG)
    able = [c for c in controls if c.kind not in _CANNOT_DRAW_MASKS and name in c.labels]
    return min(able, key=lambda control: order.index(control.type), default=None)


def _parameters(root: ET.Element, answer: Tag | None) -> dict[str, str]:
    tags = [attributes_of(element) for element in root.iter() if tag_name(element) != "label"]
    merged = {name: value for attributes in tags for name, value in attributes.items()}
    merged |= answer.attributes if answer else {}
    return {name: value for name, value in merged.items() if name.startswith("model_")}


def _explicit_background(labels: tuple[Label, ...]) -> str | None:
    """Name of the label that stands for the background, if one does."""
    flagged = _names(label for label in labels if label.is_background)
    named = _names(
        label for label in labels if {label.name.lower(), label.also.lower()} & {*BACKGROUND_NAMES}
    )
    found = flagged or named
    if len(found) > 1:
        raise BadLabelConfig(
            f"The labels {' and '.join(found)} both stand for the background: "
            'put model_background="true" on one of them only.'
        )
    return found[0] if found else None


def _unlabelled(tags: tuple[Tag, ...], explicit: str | None) -> Unlabelled:
    asked = {tag.attributes["model_unlabeled"] for tag in tags if "model_unlabeled" in tag.attributes}
    if not asked:
        return "background" if explicit is None else "ignore"
    if asked == {"ignore"}:
        return "ignore"
    if asked == {"background"}:
        return "background"
    raise BadLabelConfig(
        f"model_unlabeled is {' and '.join(sorted(asked))!r}, but must be either 'ignore' or 'background', "
        "the same on all tags: correct it."
    )


def _classes(
    labels: tuple[Label, ...], explicit: str | None
) -> tuple[tuple[ClassInfo, ...], int, dict[str, int]]:
    """Classes, index of the background, and index by every name results may use."""
    implicit = () if explicit is not None else (_IMPLICIT_BACKGROUND,)
    names = _names(labels)
    if len(names) + len(implicit) > MAX_CLASSES:
        raise BadLabelConfig(
            f"The label config has {len(names)} labels, more than the {MAX_CLASSES - 1} that a mask can tell "
            "apart: remove some."
        )
    colors = _colors(labels)
    classes = (*implicit, *(ClassInfo(name=name, color=colors[name]) for name in names))
    indices = {info.name: index for index, info in enumerate(classes) if not info.implicit}
    for label in labels:
        indices.setdefault(label.also, indices[label.name])
    indices.pop("", None)
    return classes, indices[explicit] if explicit is not None else 0, indices


def _colors(labels: tuple[Label, ...]) -> dict[str, str]:
    """The config's own colours; for the others the palette's, without those that are taken."""
    own: dict[str, str] = {}
    for label in labels:
        if label.color:
            own.setdefault(label.name, label.color)
    taken = {color.lower() for color in own.values()}
    free = [color for color in _COLORS if color not in taken] or list(_COLORS)
    names = [name for name in _names(labels) if name not in own]
    return own | {name: free[index % len(free)] for index, name in enumerate(names)}


def _check_learnable(classes: tuple[ClassInfo, ...], unlabelled: Unlabelled) -> None:
    labels = [info.name for info in classes if not info.implicit]
    if len(labels) > 1 or (len(classes) > 1 and unlabelled == "background"):
        return
    raise BadLabelConfig(
        f'"{labels[0]}" is the only label and unlabelled pixels teach nothing, so that there is nothing to '
        "tell it from: add a label for what is not it."
    )


def _notes(
    controls: tuple[Control, ...], answer: Control | None, classes: tuple[ClassInfo, ...]
) -> Iterator[str]:
    if answer is None:
        yield (
            "This label config has only boxes and ellipses, which cannot draw masks: SRPU learns from them "
            f"but writes no pre-annotations; add {EXAMPLE}."
        )
        return
    names = [info.name for info in classes if not info.implicit]
    mute = [name for name in names if _writer(controls, answer, name) is None]
    if mute:
        yield (
            f"No brush, bitmask or polygon tag offers {', '.join(mute)}: SRPU learns these labels but cannot "
            f'write them; add them to "{answer.name}".'
        )


def _count(text: str | None, name: str) -> int:
    if text is None:
        return DEFAULT_MAX_REGIONS
    if not re.fullmatch(r"[0-9]{1,6}", text.strip()) or int(text) < 1:
        raise BadLabelConfig(f'{name}="{text}" must be a whole number of at least 1: correct it.')
    return int(text)
