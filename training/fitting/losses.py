"""Dice + cross-entropy for masks in which not every pixel is spoken for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.manifest import IGNORE_INDEX
from training.fitting.ranks import summed_over_ranks


class DiceCrossEntropy(nn.Module):
    """Weighted cross-entropy plus soft Dice over the classes a batch holds (Isensee et al., nnU-Net, 2021).

    Dice looks at each class by its overlap, whatever its area; cross-entropy gives every pixel a gradient.
    Where several processes share a batch, both are those of the whole batch, in every process.
    """

    weights: Tensor

    def __init__(self, weights: NDArray[Any]) -> None:
        """`weights`: (C,), what a pixel of each class counts in the cross-entropy; see `class_weights`."""
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32), persistent=False)
        self.parts: dict[str, Tensor] = {}
        """Terms of the last loss, for the record."""

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Logits (N, C, H, W), truth int64 (N, H, W) with 255 = ignore → scalar; 0 where all is ignored."""
        logits = logits.float()  # sums over a million pixels need more digits than bfloat16 has
        classes = logits.shape[1]
        labelled = truth != IGNORE_INDEX
        known = truth.where(labelled, 0)
        errors = F.cross_entropy(
            logits, truth, weight=self.weights, ignore_index=IGNORE_INDEX, reduction="sum"
        )
        total = (self.weights[known] * labelled).sum()
        true = F.one_hot(known, classes).movedim(-1, 1) * labelled[:, None]
        found = logits.softmax(dim=1) * labelled[:, None]
        pixels = [_by_class(found * true), _by_class(found), _by_class(true)]
        sums = summed_over_ranks(torch.cat([errors[None], total[None], *pixels]))
        cross_entropy = sums[0] / sums[1].clamp_min(1e-6)
        dice = _dice(*sums[2:].view(3, classes))
        self.parts = {"cross_entropy": cross_entropy.detach(), "dice": dice.detach()}
        return cross_entropy + dice


def _by_class(pixels: Tensor) -> Tensor:
    return pixels.sum(dim=(0, 2, 3), dtype=torch.float32)


def _dice(hits: Tensor, found: Tensor, true: Tensor) -> Tensor:
    """Mean over the classes, (C,) each, of 1 − Dice; 0 for a class without truth."""
    scores = 2 * hits / (found + true).clamp_min(1e-7)
    return ((1 - scores) * (true > 0)).mean()


def class_weights(pixels: NDArray[Any], cap: float) -> NDArray[np.float64]:
    """Weights (C,) from pixel counts (C,): inverse to frequency, 1 for the most frequent, `cap` at most.

    A class without a pixel gets 1; it never counts.
    """
    counts = np.asarray(pixels, dtype=np.float64)
    weights = np.divide(counts.max(initial=1.0), counts, out=np.ones_like(counts), where=counts > 0)
    capped: NDArray[np.float64] = np.minimum(weights, cap)
    return capped
