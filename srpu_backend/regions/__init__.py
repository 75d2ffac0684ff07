"""Regions ↔ masks, both ways, for every tag of Label Studio that covers pixels."""

from srpu_backend.regions.decode import DecodedMask, masks_from_results
from srpu_backend.regions.encode import EncodedMask, encode_mask, remap, results_from_mask
from srpu_backend.regions.errors import BadRegion

__all__ = [
    "BadRegion",
    "DecodedMask",
    "EncodedMask",
    "encode_mask",
    "masks_from_results",
    "remap",
    "results_from_mask",
]
