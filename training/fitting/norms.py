"""Batch norms' statistics, measured anew for weights that were averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def settle_norms(network: nn.Module, batches: Iterable[tuple[Tensor, Any]], encoder_too: bool = True) -> None:
    """Give the batch norms of `network` the mean statistics of `batches`; leaves it in eval mode.

    Statistics belong to the weights they were measured with and lag behind an average of them (Izmailov et
    al., Averaging Weights Leads to Wider Optima, 2018): after few steps that costs most of the score. As
    torch's `update_bn`, but for an encoder that was frozen with the statistics it came with.
    """
    network.train()
    if not encoder_too:
        network.get_submodule("encoder").eval()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain mean of all batches
    device = next(network.parameters()).device
    for images, _ in batches if norms else ():
        network(images.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
