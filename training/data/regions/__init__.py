"""Regions as Label Studio stores them, a file format like any other: run lengths, bitmaps, shapes ↔ masks."""

from training.data.regions import bitmask, rle, shapes
from training.data.regions.errors import BadRegion
from training.data.regions.painting import PaintedMask, paint

__all__ = ["BadRegion", "PaintedMask", "bitmask", "paint", "rle", "shapes"]
