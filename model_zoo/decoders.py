"""The decoders, and what each asks of an encoder and of its input. Importing it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_zoo.card import ModelSpec
from model_zoo.errors import UnsupportedModel
from model_zoo.names import suggestion

TIMM_PREFIX = "tu-"


@dataclass(frozen=True)
class Decoder:
    """One decoder of segmentation_models_pytorch, under the name our specs use."""

    name: str
    architecture: str
    """Its name in `smp.create_model`."""
    works_with: str
    """Which encoders it takes, for the error message of those it does not."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments where we depart from smp's own defaults; a spec's options win."""


_PYRAMIDS = (
    "unet, resnet18/34/50, se_resnet50, efficientnet-b0…b4, mobilenet_v2, densenet121, vgg11_bn and other "
    "smp encoders, and tu-<timm model> that gives a feature pyramid (tu-convnext_tiny)"
)
_DILATABLE = (
    "encoders that can be dilated: resnet18/34/50, se_resnet50, efficientnet-b0…b4, mobilenet_v2, "
    "tu-convnext_tiny, tu-regnety_004 (not densenet, vgg, hrnet)"
)
_TIMM_VIT = (
    "dinov2-small, dinov2-base, dinov3-small, dinov3-base and tu-<timm ViT> such as "
    "tu-vit_small_patch14_dinov2, tu-vit_tiny_patch16_224, and with tu-convnext_tiny"
)
# smp's default DPT decoder has 30 M parameters, more than a ViT-S; this one is 3.5x faster on a CPU.
_SMALL_DPT = {"decoder_intermediate_channels": (48, 96, 192, 384), "decoder_fusion_channels": 64}

DECODERS: Mapping[str, Decoder] = {
    decoder.name: decoder
    for decoder in (
        Decoder("unet", "unet", _PYRAMIDS),
        Decoder("unetplusplus", "unetplusplus", _PYRAMIDS),
        Decoder("fpn", "fpn", _PYRAMIDS),
        Decoder("deeplabv3plus", "deeplabv3plus", _DILATABLE),
        Decoder("dpt", "dpt", _TIMM_VIT, _SMALL_DPT),
    )
}


def decoder_of(spec: ModelSpec) -> Decoder:
    """The decoder `spec` names; raises `UnsupportedModel` with the names there are."""
    try:
        return DECODERS[spec.decoder]
    except KeyError:
        names = ", ".join(DECODERS)
        raise UnsupportedModel(
            f"There is no decoder named {spec.decoder!r}; use one of: {names}."
            f"{suggestion(spec.decoder, DECODERS)}"
        ) from None


def stride(spec: ModelSpec) -> int:
    """Sides of the network's input, in px, must be multiples of this; raises `UnsupportedModel`.

    For DPT it is 32: a multiple of the patch sizes 8, 16 and 32 and of a ConvNeXt's reduction.
    """
    decoder = decoder_of(spec)
    if decoder.name == "deeplabv3plus":
        return int(spec.options.get("encoder_output_stride", 16))
    if decoder.name == "dpt":
        return 32
    depth = spec.options.get("encoder_depth", 5)
    return int(2 ** (depth - 1 if spec.encoder == "unet" else depth))  # its first level keeps full resolution
