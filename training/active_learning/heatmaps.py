"""Where in an image the model is unsure, as a picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.active_learning.acquisition import Map
from training.overlays import Picture, display_grey

_LONGEST_SIDE = 1024
_OPACITY = 0.75


def heatmap(image: NDArray[Any], uncertainty: Map) -> Picture:
    """The micrograph in grey, uncertain regions glowing: uint8 RGB, at most 1024 px on a side.

    `image` is grey uint8 or uint16 (H, W), `uncertainty` (H, W) in [0, 1]. What is sure stays clear; the
    scale is the same for all images, so that they compare.
    """
    scale = min(1.0, _LONGEST_SIDE / max(image.shape))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    grey = cv2.resize(display_grey(image), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    doubt = cv2.resize(uncertainty, size, interpolation=cv2.INTER_AREA).clip(0, 1)
    colors = cv2.applyColorMap((255 * doubt).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = (_OPACITY * np.sqrt(doubt))[..., None]
    picture: Picture = (grey[..., None] * (1 - weight) + colors * weight + 0.5).astype(np.uint8)
    return picture
