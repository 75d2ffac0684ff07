"""Which weights learn how fast: blocks of the encoder, the head, weights that decay and those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from torch import nn

from training.config import TrainingConfig

_ENCODER = "encoder."


class _Kind(NamedTuple):
    height: int
    """Blocks of the encoder that lie above; −1 for what is not of the encoder."""
    decays: bool


def parameter_groups(network: nn.Module, config: TrainingConfig, pretrained: bool) -> list[dict[str, Any]]:
    """AdamW's groups: the encoder's blocks from the first to the last, then the rest, each once with weights
    that decay and once with those (biases, norms) that do not.

    A pre-trained encoder learns more slowly than the head, which knows nothing yet, and its lower blocks,
    which know edges and textures of any image, the slowest: `lr · encoder_lr_scale · layer_decay^height`
    (Howard & Ruder, ULMFiT, 2018, section 3.2; for vision transformers Bao et al., BEiT, 2022).
    A random encoder learns as fast as the head.
    """
    named = list(network.named_parameters())
    heights = _heights(named) if pretrained else {}
    kinds: dict[_Kind, list[nn.Parameter]] = {}
    for name, parameter in named:
        height = heights.get(name, 0) if name.startswith(_ENCODER) else -1
        kinds.setdefault(_Kind(height, parameter.ndim > 1), []).append(parameter)
    groups = []
    for kind in sorted(kinds, reverse=True):
        lr = config.lr
        if pretrained and kind.height >= 0:
            lr *= config.encoder_lr_scale * config.layer_decay**kind.height
        decay = config.weight_decay if kind.decays else 0.0
        groups.append({"params": kinds[kind], "lr": lr, "full_lr": lr, "weight_decay": decay})
    return groups


def _heights(named: Sequence[tuple[str, nn.Parameter]]) -> dict[str, int]:
    """Blocks above each of the encoder's parameters, which come in the order of the network."""
    of_encoder = [(name, parameter) for name, parameter in named if name.startswith(_ENCODER)]
    blocks: list[list[str]] = []
    for _, members in groupby(of_encoder, lambda item: _block(item[0])):
        block = list(members)
        is_norm = all(parameter.ndim <= 1 for _, parameter in block)
        if is_norm and blocks:  # it belongs to the layer before it
            blocks[-1] += [name for name, _ in block]
        else:
            blocks.append([name for name, _ in block])
    return {name: len(blocks) - 1 - place for place, block in enumerate(blocks) for name in block}


def _block(name: str) -> str:
    """The part of the network that ends in a number: `encoder.layer1.0.conv1.weight` → `encoder.layer1`,
    `encoder.model.blocks.3.norm1.bias` → `encoder.model.blocks.3`; empty where there is none."""
    parts = name.split(".")[:-1]
    numbered = (place for place, part in enumerate(parts) if part[-1].isdigit())
    return ".".join(parts[: next(numbered, -1) + 1])
