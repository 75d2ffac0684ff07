"""Dice + cross-entropy for masks in which not every pixel is spoken for."""

from __future__ import annotations

from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.manifest import IGNORE_INDEX


class DiceCrossEntropy(nn.Module):
    """Weighted cross-entropy plus soft Dice over the classes a batch holds (Isensee et al., nnU-Net, 2021).

    Dice looks at each class by its overlap, whatever its area; cross-entropy gives every pixel a gradient.
    """

    weights: Tensor

    def __init__(self, weights: NDArray[Any]) -> None:
        """`weights`: (C,), what a pixel of each class counts in the cross-entropy; see `class_weights`."""
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32), persistent=False)
        self.dice = smp.losses.DiceLoss(mode="multiclass", ignore_index=IGNORE_INDEX)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Logits (N, C, H, W), truth int64 (N, H, W) with 255 = ignore → scalar; 0 where all is ignored."""
        logits = logits.float()  # sums over a million pixels need more digits than bfloat16 has
        summed = F.cross_entropy(
            logits, truth, weight=self.weights, ignore_index=IGNORE_INDEX, reduction="sum"
        )
        labelled = truth != IGNORE_INDEX
        total = (self.weights[truth.where(labelled, 0)] * labelled).sum()
        dice: Tensor = self.dice(logits, truth)
        return summed / total.clamp_min(1e-6) + dice


def class_weights(pixels: NDArray[Any], cap: float) -> NDArray[np.float64]:
    """Weights (C,) from pixel counts (C,): inverse to frequency, 1 for the most frequent, `cap` at most.

    A class without a pixel gets 1; it never counts.
    """
    counts = np.asarray(pixels, dtype=np.float64)
    weights = np.divide(counts.max(initial=1.0), counts, out=np.ones_like(counts), where=counts > 0)
    capped: NDArray[np.float64] = np.minimum(weights, cap)
    return capped
