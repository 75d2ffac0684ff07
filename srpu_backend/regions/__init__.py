"""A project's regions ↔ masks of its classes; the shapes themselves are `training.data.regions`."""

from srpu_backend.regions.decode import masks_from_results
from srpu_backend.regions.encode import EncodedMask, encode_mask, remap, results_from_mask
from training.data.regions import BadRegion, PaintedMask, bitmask, rle, shapes

__all__ = [
    "BadRegion",
    "EncodedMask",
    "PaintedMask",
    "bitmask",
    "encode_mask",
    "masks_from_results",
    "remap",
    "results_from_mask",
    "rle",
    "shapes",
]
