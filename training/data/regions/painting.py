"""What people drew, as a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import IGNORE_INDEX
from training.data.regions.errors import BadRegion
from training.data.regions.region import read_regions


@dataclass(frozen=True)
class PaintedMask:
    """A mask, and what of the annotation could not be used."""

    mask: NDArray[np.uint8]
    """(H, W) of class indices, 255 = ignore."""
    problems: tuple[str, ...]
    """One sentence for each region that is not, or not fully, in the mask."""


def paint(
    results: object,
    size: tuple[int, int],
    index_of: Callable[[str], int | None],
    unmarked: int = IGNORE_INDEX,
    image_name: str | None = None,
    classes_of: str = "the label config",
) -> PaintedMask:
    """The mask that an annotation's or a prediction's `result` stands for, on an image of `size`.

    Regions are painted in their order, so that later ones win; pixels of a region whose label stands for no
    class are ignore. A region that cannot be drawn, or was drawn on an image of another size, is left out.
    Pixels without a region are `unmarked`, but ignore wherever a region was left out: it may have been there.
    Nothing a person can have drawn or imported raises.

    Args:
        results: list of results as Label Studio stores them.
        size: (width, height) of the image in px.
        index_of: class index of a label; None for one that stands for no class.
        unmarked: class index of pixels without a region, or 255.
        image_name: `to_name` of the image's regions; None: unknown.
        classes_of: what the classes are of, to be said of a label that is none.
    """
    shape = (size[1], size[0])
    mask = np.full(shape, IGNORE_INDEX, np.uint8)
    if not isinstance(results, list | tuple):
        return PaintedMask(mask, ("The annotation's result is no list of regions.",))
    marked = np.zeros(shape, np.bool_)
    left_out: list[str] = []
    nameless: list[str] = []
    for region in read_regions(results, image_name, left_out):
        try:
            covered = region.drawn(shape)
        except BadRegion as error:
            left_out.append(f"{region} is left out: {error}")
            continue
        index = next((i for i in map(index_of, region.labels) if i is not None), None)
        if index is None:
            nameless.append(f"{region} {_no_class(region.labels, classes_of)}, so its pixels are ignored.")
        mask[covered] = IGNORE_INDEX if index is None else index
        marked |= covered
    if not left_out:
        mask[~marked] = unmarked
    return PaintedMask(mask, (*left_out, *nameless))


def _no_class(labels: tuple[str, ...], classes_of: str) -> str:
    if not labels:
        return "has no label"
    return f"has the label {labels[0][:80]!r}, which {classes_of} does not have"
