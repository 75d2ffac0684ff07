"""The results of an annotation as regions: which belong together, what they cover, how they are called.

Label Studio's editor writes a region of `<BrushLabels>` as one result, and a region of `<Brush>` with
`<Labels>` as two of the same id, each with the whole shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.regions import bitmask, rle, shapes
from training.data.regions.errors import BadRegion

OPAQUE_ENOUGH = 128
"""Alpha from which a brush region has a pixel: strokes are anti-aliased, and half covered is covered."""

Shape = tuple[int, int]
Value = Mapping[str, Any]


@dataclass(frozen=True)
class Region:
    """An area that somebody marked."""

    id: str
    type: str
    draw: Callable[[Value, Shape], NDArray[np.bool_]]
    value: Value
    labels: tuple[str, ...]
    """As results carry them, the more certain first."""
    result: Mapping[str, Any]

    def __str__(self) -> str:
        return f"Region {_said(self.id) or '?'} ({self.type})"

    def drawn(self, shape: Shape) -> NDArray[np.bool_]:
        """Its pixels (H, W); raises `BadRegion`."""
        width, height = self.result.get("original_width"), self.result.get("original_height")
        if (width, height) not in ((None, None), shape[::-1]):
            raise BadRegion(
                f"it was drawn on an image of {width} × {height} px, but this one has "
                f"{shape[1]} × {shape[0]} px."
            )
        if self.result.get("image_rotation") not in (None, 0, 360):
            raise BadRegion("the image was turned while it was drawn; turn it back and submit again.")
        return self.draw(self.value, shape)


def read_regions(results: Sequence[Any], image_name: str | None, problems: list[str]) -> Iterator[Region]:
    """The regions of an annotation in drawing order, the two results of a pair as one.

    What says nothing of pixels, such as choices or keypoints, is passed over. What should and does not is
    told in a sentence added to `problems`.
    """
    pairs = _Pairs(results)
    for number, result in enumerate(results):
        name = f"Result {number + 1}"
        if not isinstance(result, Mapping) or not isinstance(result.get("type"), str):
            problems.append(f"{name} of the annotation is no region and is left out.")
            continue
        type, value = result["type"].lower(), result.get("value")
        if type in _NO_AREA or pairs.says_it_elsewhere(result):
            continue
        if not isinstance(value, Mapping):
            problems.append(f"{name} ({_said(type)}) has no value and is left out.")
            continue
        draw = _DRAW.get(_shape_of(type, value))
        if draw is not None:
            labels = (*_labels(type, value), *pairs.labels(result))
            yield Region(_id(result), type, draw, value, labels, result)
        elif type != "labels" or result.get("to_name") == image_name:
            problems.append(f"{name} ({_said(type)}) has no shape that SRPU can draw and is left out.")


def _brush(value: Value, shape: Shape) -> NDArray[np.bool_]:
    return rle.decode(value.get("rle", ()), shape) >= OPAQUE_ENOUGH


def _bitmask(value: Value, shape: Shape) -> NDArray[np.bool_]:
    return bitmask.decode(value.get("imageDataURL", ""), shape)


_DRAW: dict[str, Callable[[Value, Shape], NDArray[np.bool_]]] = {
    "brush": _brush,
    "magicwand": _brush,
    "bitmask": _bitmask,
    "polygon": shapes.polygon,
    "rectangle": shapes.rectangle,
    "ellipse": shapes.ellipse,
}
"""By type of result, without its ending `labels`."""
_TELLTALE = {
    "rle": "brush",
    "imageDataURL": "bitmask",
    "points": "polygon",
    "radiusX": "ellipse",
    "height": "rectangle",
}
"""What only one kind of shape has in its value; Label Studio's editor tells them apart likewise."""
_NO_AREA = frozenset(
    {"choices", "taxonomy", "textarea", "rating", "number", "datetime", "pairwise", "ranker", "relation"}
    | {"keypoint", "keypointlabels"}
)


class _Pairs:
    """Plain shapes and the labels that come as results of their own, with the same id."""

    def __init__(self, results: Sequence[Any]) -> None:
        self._labels: dict[str, list[str]] = {}
        self._shapes: set[str] = set()
        for result in results:
            if isinstance(result, Mapping) and isinstance(result.get("type"), str) and _id(result):
                self._add(_id(result), result["type"].lower(), result.get("value"))

    def _add(self, id: str, type: str, value: object) -> None:
        if type.removesuffix("labels") in _DRAW:
            self._shapes.add(id)
        if type.endswith("labels"):
            self._labels.setdefault(id, []).extend(_labels(type, value))

    def says_it_elsewhere(self, result: Mapping[str, Any]) -> bool:
        """True for the labels of a region whose shape is a result of its own."""
        return result["type"].lower() == "labels" and _id(result) in self._shapes

    def labels(self, result: Mapping[str, Any]) -> list[str]:
        """Labels from the other results of a plain shape's region."""
        return self._labels.get(_id(result), []) if result["type"].lower() in _DRAW else []


def _shape_of(type: str, value: Value) -> str:
    if type != "labels":
        return type.removesuffix("labels")
    return next((shape for key, shape in _TELLTALE.items() if key in value), "")


def _labels(type: str, value: object) -> tuple[str, ...]:
    """Labels within a result's value, those under its own type first."""
    if not isinstance(value, Mapping):
        return ()
    keys = [key for key in value if isinstance(key, str) and key.endswith("labels")]
    keys.sort(key=lambda key: key != type)
    lists = [value[key] if isinstance(value[key], list | tuple) else [value[key]] for key in keys]
    return tuple(label for labels in lists for label in labels if isinstance(label, str))


def _id(result: Mapping[str, Any]) -> str:
    id = result.get("id")
    return str(id) if isinstance(id, str | int) else ""


def _said(text: str) -> str:
    """Somebody else's text, fit for a sentence of ours."""
    return " ".join(text.split())[:40]
