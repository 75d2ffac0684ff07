"""Smart tools: what a person points at becomes a region."""

from srpu_backend.interactive.image_state import ImageState, StateCache
from srpu_backend.interactive.prompts import Box, Click, Prompts
from srpu_backend.interactive.segmentation import Region, segment
from srpu_backend.interactive.smart_tool import SmartTool

__all__ = ["Box", "Click", "ImageState", "Prompts", "Region", "SmartTool", "StateCache", "segment"]
