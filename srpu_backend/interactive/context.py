"""`context` of an interactive /predict: what was drawn with smart tools, as prompts.

Label Studio's editor sends all regions of one tool and label that are not accepted yet, in order; with Alt
held they are negative. How the answer is shown is told in `docs/smart-tools.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from srpu_backend.interactive.prompts import Box, Click, Prompts
from srpu_backend.label_config import LabelConfig
from training.data.regions import BadRegion
from training.data.regions.region import Region, read_regions

Shape = tuple[int, int]

MOST_PROMPTS = 200
_STROKES = ("brush", "bitmask", "magicwand")
_POINTS = ("keypoint", "keypointlabels")


class BadContext(SRPUError):
    """Smart-tool prompts that say nothing we can follow."""


@dataclass(frozen=True)
class LabelledPrompts:
    """What one region is asked for with."""

    label: int
    """Index into the config's classes."""
    prompts: Prompts


@dataclass
class _Said:
    """Everything said with one label."""

    clicks: list[Click] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    stroke: NDArray[np.bool_] | None = None
    erased: NDArray[np.bool_] | None = None


def read_context(context: object, config: LabelConfig, shape: Shape) -> tuple[LabelledPrompts, ...]:
    """One element for each region asked for: a box each, all clicks and strokes of a label together.

    `shape` is the image's (H, W). Raises `BadContext`, one sentence, where nothing can be followed.
    """
    results = _results(context)
    said: dict[int, _Said] = {}
    for result in results:
        if isinstance(result, Mapping) and str(result.get("type")).lower() in _POINTS:
            label = _label(_labels_of(result, results), config)
            said.setdefault(label, _Said()).clicks.append(_click(result, shape))
    problems: list[str] = []
    for region in read_regions(results, config.image_name, problems):
        _add_area(said.setdefault(_label(region.labels, config), _Said()), region, shape)
    if not said:
        raise BadContext(
            problems[0] if problems else "The smart tool sent no prompt: click, draw a box or a stroke."
        )
    asked = tuple(LabelledPrompts(label, p) for label, s in said.items() for p in _prompts(s))
    if not any(a.prompts.points_at_something for a in asked):
        raise BadContext(
            "Nothing says what belongs to the region: click on it first, without Alt, then on what does not."
        )
    return asked


def _results(context: object) -> Sequence[Any]:
    results = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(results, list):
        raise BadContext("The smart tool's context has no list `result` of prompts.")
    if len(results) > MOST_PROMPTS:
        raise BadContext(
            f"The smart tool sent {len(results)} prompts, more than {MOST_PROMPTS}: accept some first."
        )
    return results


def _labels_of(result: Mapping[str, Any], results: Sequence[Any]) -> Iterator[str]:
    """Labels within a keypoint's value, then those that a `Labels` tag gave to the same region."""
    partners = [r for r in results if isinstance(r, Mapping) and r.get("id") == result.get("id")]
    for one in (result, *partners):
        value = one.get("value")
        for key, labels in value.items() if isinstance(value, Mapping) else ():
            if str(key).endswith("labels") and isinstance(labels, list):
                yield from (label for label in labels if isinstance(label, str))


def _label(labels: Iterator[str] | Sequence[str], config: LabelConfig) -> int:
    names = list(labels)
    index = next((i for name in names if (i := config.index_of(name)) is not None), None)
    if index is None:
        told = (
            f"the label {names[0]!r:.60} is not among the config's masks" if names else "no label was chosen"
        )
        raise BadContext(f"The smart tool cannot answer: {told}; choose a label that a mask tag offers.")
    if config.writer(config.classes[index].name) is None:
        raise BadContext(
            f'No brush, bitmask or polygon tag offers "{config.classes[index].name}": add the label to one.'
        )
    return index


def _click(result: Mapping[str, Any], shape: Shape) -> Click:
    value = result.get("value")
    x, y = (value.get(k) if isinstance(value, Mapping) else None for k in ("x", "y"))
    if not (_is_percent(x) and _is_percent(y)):
        raise BadContext(f"A keypoint lies at x={x!r:.20}, y={y!r:.20}, outside of the image (0 to 100 %).")
    _check_size(result, shape)
    column = min(int(float(x) * shape[1] / 100), shape[1] - 1)  # type: ignore[arg-type]
    row = min(int(float(y) * shape[0] / 100), shape[0] - 1)  # type: ignore[arg-type]
    return Click(column, row, _is_positive(result))


def _is_percent(number: object) -> bool:
    return (
        isinstance(number, int | float)
        and not isinstance(number, bool)
        and math.isfinite(number)
        and 0 <= number <= 100
    )


def _is_positive(result: Mapping[str, Any]) -> bool:
    value = result.get("value")
    said = result.get("is_positive", value.get("is_positive") if isinstance(value, Mapping) else None)
    return said is not False


def _check_size(result: Mapping[str, Any], shape: Shape) -> None:
    size = result.get("original_width"), result.get("original_height")
    if size not in ((None, None), shape[::-1]):
        raise BadContext(
            f"The prompt was drawn on an image of {size[0]} × {size[1]} px, but this one has "
            f"{shape[1]} × {shape[0]} px: reload the task."
        )


def _add_area(said: _Said, region: Region, shape: Shape) -> None:
    try:
        drawn = region.drawn(shape)
    except BadRegion as error:
        raise BadContext(f"{region} of the smart tool cannot be read: {error}") from None
    if not drawn.any():
        raise BadContext("The box or stroke covers no pixel of the image: draw it on the image.")
    if not _is_positive(region.result):
        said.erased = drawn if said.erased is None else said.erased | drawn
    elif region.type.removesuffix("labels") in _STROKES:
        said.stroke = drawn if said.stroke is None else said.stroke | drawn
    else:
        rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
        x0, x1, y0, y1 = (int(v) for v in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1))
        said.boxes.append(Box(x0, y0, x1, y1))


def _prompts(said: _Said) -> Iterator[Prompts]:
    """A region for each box, with the clicks in it; without boxes, one of all that was said."""
    if len(said.boxes) <= 1:
        box = said.boxes[0] if said.boxes else None
        yield Prompts(tuple(said.clicks), box, said.stroke, said.erased)
        return
    for box in said.boxes:
        inside = tuple(c for c in said.clicks if box.x0 <= c.x < box.x1 and box.y0 <= c.y < box.y1)
        yield Prompts(inside, box, None, said.erased)
