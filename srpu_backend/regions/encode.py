"""A model's masks as regions, in the shapes in which Label Studio's editor writes them itself."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from srpu_backend.label_config import Control, LabelConfig
from srpu_backend.regions.outlines import Component, components, joined
from training.data.manifest import IGNORE_INDEX
from training.data.regions import bitmask, rle

log = logging.getLogger(__name__)

Result = dict[str, Any]
ClassMap = NDArray[np.uint8]

_PERCENT_DECIMALS = 4
"""A thousandth of a pixel on an image of 1000 px."""


@dataclass(frozen=True)
class EncodedMask:
    """Regions of one image."""

    results: list[Result]
    dropped: int
    """Connected components left out, the smallest, for having more than `model_max_regions`."""


def results_from_mask(
    class_map: ClassMap, config: LabelConfig, scores: Mapping[str, float] | None = None
) -> list[Result]:
    """The `result` of a prediction: `encode_mask` with what it dropped logged."""
    encoded = encode_mask(class_map, config, scores)
    if encoded.dropped:
        log.info(
            "%d small areas are not among the polygons: at most %d are written, see model_max_regions",
            encoded.dropped,
            config.max_regions,
        )
    return encoded.results


def encode_mask(
    class_map: ClassMap, config: LabelConfig, scores: Mapping[str, float] | None = None
) -> EncodedMask:
    """Regions that paint a class map, one per class, or polygons per component where the config says so.

    An explicit background comes first, so that whatever is painted later wins over it; then the classes in
    the config's order. Implicit background, 255 and classes that no control can draw are not written. Ids
    depend on content alone: a region nobody touched keeps its id.

    Args:
        class_map: uint8 (H, W) of indices into `config.classes`, 255 = nothing to say.
        scores: confidence in [0, 1] by class name, shown beside the region.

    Raises `ValueError` for a class map that is no mask of this config's classes.
    """
    _check(class_map, config)
    present = {int(index) for index in np.unique(class_map)} - {IGNORE_INDEX}
    written = [
        (info.name, control, class_map == index)
        for index, info in _painting_order(config)
        if index in present and (control := config.writer(info.name)) is not None
    ]
    found = {name: components(mask) for name, control, mask in written if control.kind == "polygon"}
    kept = _largest(found, config.max_regions)
    results: list[Result] = []
    for name, control, mask in written:
        score = (scores or {}).get(name)
        for value in _values(control, mask, kept.get(name, []), config.instances):
            results += _region(name, control, value, score, config, mask.shape)
    return EncodedMask(results, sum(map(len, found.values())) - sum(map(len, kept.values())))


def remap(class_map: ClassMap, model_classes: Sequence[ClassInfo], config: LabelConfig) -> ClassMap:
    """A class map in a model's classes as one in the config's, by name.

    The model's implicit background becomes the config's background. A class that the config does not have
    becomes the implicit background, or 255, which is not written, where background is a label of its own:
    nobody said that those pixels are background.
    """
    nothing = config.background if config.classes[config.background].implicit else IGNORE_INDEX
    table = np.full(256, nothing, np.uint8)
    for index, info in enumerate(model_classes):
        found = config.background if info.implicit else config.index_of(info.name)
        table[index] = nothing if found is None else found
    table[IGNORE_INDEX] = IGNORE_INDEX
    return table[class_map]


def _check(class_map: ClassMap, config: LabelConfig) -> None:
    if class_map.ndim != 2 or class_map.dtype != np.uint8 or not class_map.size:
        raise ValueError(f"a class map must be uint8 (H, W), not {class_map.dtype} {class_map.shape}")
    strays = (class_map >= len(config.classes)) & (class_map != IGNORE_INDEX)
    if strays.any():
        raise ValueError(f"the class map has {class_map[strays][0]}, of {len(config.classes)} classes")


def _painting_order(config: LabelConfig) -> Iterator[tuple[int, ClassInfo]]:
    labels = [(index, info) for index, info in enumerate(config.classes) if not info.implicit]
    yield from sorted(labels, key=lambda label: label[0] != config.background)


def _largest(found: Mapping[str, list[Component]], count: int) -> dict[str, list[Component]]:
    """The `count` largest components of all classes, by class, the largest first."""
    ranked = [(component.area, name, component) for name, parts in found.items() for component in parts]
    ranked.sort(key=lambda entry: -entry[0])
    kept: dict[str, list[Component]] = {}
    for _, name, component in ranked[:count]:
        kept.setdefault(name, []).append(component)
    return kept


def _values(
    control: Control, mask: NDArray[np.bool_], parts: list[Component], instances: bool
) -> Iterator[Result]:
    if control.kind == "bitmask":
        yield {"imageDataURL": bitmask.encode(mask)}
    elif control.kind == "brush":
        yield {"format": "rle", "rle": rle.encode(mask)}
    elif instances:
        yield from (_polygon(part.outline(), mask.shape) for part in parts)
    elif parts:
        yield _polygon(joined([part.outline() for part in parts]), mask.shape)


def _polygon(points: NDArray[np.float64], shape: tuple[int, ...]) -> Result:
    percent = points * 100 / np.array(shape[::-1])
    return {"points": percent.round(_PERCENT_DECIMALS).tolist(), "closed": True}


def _region(
    name: str,
    control: Control,
    value: Result,
    score: float | None,
    config: LabelConfig,
    shape: tuple[int, ...],
) -> Iterator[Result]:
    """One result, or the two of a paired control, which share id and shape as in the editor's own."""
    common: Result = {
        "id": _id(control, name, value),
        "to_name": config.image_name,
        "original_width": shape[1],
        "original_height": shape[0],
        "image_rotation": 0,
    }
    if score is not None:
        common["score"] = float(score)
    labels_tag = config.labels_tag(name) if control.is_paired else None
    if labels_tag is None:
        yield {
            **common,
            "from_name": control.name,
            "type": control.type,
            "value": {**value, control.type: [name]},
        }
        return
    yield {**common, "from_name": control.name, "type": control.type, "value": value}
    labelled = {**value, "labels": [name]}
    if control.type == "magicwand":
        # Label Studio's check of imported predictions does not know magic wands as partners of labels: it
        # takes these for labels of a text and wants to know from where to where. The editor does not care.
        labelled |= {"start": 0, "end": 0}
    yield {**common, "from_name": labels_tag.name, "type": "labels", "value": labelled}


def _id(control: Control, name: str, value: Result) -> str:
    content = json.dumps([control.name, name, value], separators=(",", ":")).encode()
    return hashlib.blake2s(content, digest_size=5).hexdigest()
