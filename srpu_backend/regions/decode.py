"""What people drew in a project, as a mask of its label config's classes."""

from __future__ import annotations

from srpu_backend.label_config import LabelConfig
from training.data.manifest import IGNORE_INDEX
from training.data.regions import PaintedMask, paint


def masks_from_results(results: object, config: LabelConfig, size: tuple[int, int]) -> PaintedMask:
    """`training.data.regions.paint` as the label config says.

    Args:
        results: list of results as Label Studio stores them.
        config: gives the classes and what unlabelled pixels are.
        size: (width, height) of the image in px.
    """
    unmarked = config.background if config.unlabelled == "background" else IGNORE_INDEX
    return paint(results, size, config.index_of, unmarked, config.image_name)
