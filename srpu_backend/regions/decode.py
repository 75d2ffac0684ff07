"""What people drew in Label Studio, as a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srpu_backend.label_config import LabelConfig
from srpu_backend.regions.errors import BadRegion
from srpu_backend.regions.region import read_regions
from training.data.manifest import IGNORE_INDEX


@dataclass(frozen=True)
class DecodedMask:
    """A mask, and what of the annotation could not be used."""

    mask: NDArray[np.uint8]
    """(H, W) of class indices, 255 = ignore."""
    problems: tuple[str, ...]
    """One sentence for each region that is not, or not fully, in the mask."""


def masks_from_results(results: object, config: LabelConfig, size: tuple[int, int]) -> DecodedMask:
    """The mask that an annotation's or a prediction's `result` stands for, on an image of `size`.

    Regions are painted in their order, so that later ones win; pixels of a region whose label the config
    does not have are ignore. A region that cannot be drawn, or was drawn on an image of another size, is left
    out. Pixels without a region are background or ignore, as the config says, and ignore wherever a region
    was left out: it may have been there. Nothing a person can have drawn or imported raises.

    Args:
        results: list of results as Label Studio stores them.
        config: gives the classes and what unlabelled pixels are.
        size: (width, height) of the image in px.
    """
    shape = (size[1], size[0])
    mask = np.full(shape, IGNORE_INDEX, np.uint8)
    if not isinstance(results, list | tuple):
        return DecodedMask(mask, ("The annotation's result is no list of regions.",))
    marked = np.zeros(shape, np.bool_)
    left_out: list[str] = []
    nameless: list[str] = []
    for region in read_regions(results, config.image_name, left_out):
        try:
            covered = region.drawn(shape)
        except BadRegion as error:
            left_out.append(f"{region} is left out: {error}")
            continue
        index = next((i for i in map(config.index_of, region.labels) if i is not None), None)
        if index is None:
            nameless.append(f"{region} {_no_class(region.labels)}, so its pixels are ignored.")
        mask[covered] = IGNORE_INDEX if index is None else index
        marked |= covered
    if config.unlabelled == "background" and not left_out:
        mask[~marked] = config.background
    return DecodedMask(mask, (*left_out, *nameless))


def _no_class(labels: tuple[str, ...]) -> str:
    if not labels:
        return "has no label"
    return f"has the label {labels[0][:80]!r}, which the label config does not have"
