"""`ModelSpec` → network. Encoders are smp's and timm's; nothing here touches the network or a file."""

from __future__ import annotations

import inspect
import re
from typing import Any

import segmentation_models_pytorch as smp
import timm
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segmentation_models_pytorch.encoders.efficientnet import EfficientNetEncoder
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import nn

from model_zoo import unet_encoder
from model_zoo.card import ModelSpec
from model_zoo.decoders import DECODERS, TIMM_PREFIX, Decoder, decoder_of, stride
from model_zoo.errors import UnsupportedModel
from model_zoo.names import NAMED_ENCODERS, suggestion

__all__ = ["build", "decoders", "smp_name", "stride"]

unet_encoder.declare()

# smp and timm raise these for names, options and combinations they do not know.
_REFUSALS = (
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    NotImplementedError,
    AssertionError,
)
_PLAIN_VIT = re.compile(r"(test_vit|vit_|flexivit_|deit|eva|beit)")
_SEAMS = ("instancenorm", "layernorm", "groupnorm")
_OURS = {
    "self",
    "encoder_name",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
    "kwargs",
}


def decoders() -> tuple[str, ...]:
    """Names that `ModelSpec.decoder` may have."""
    return tuple(DECODERS)


def smp_name(encoder: str) -> str:
    """What smp calls an encoder: timm's models may be named without the `tu-` before them."""
    if encoder in smp.encoders.encoders or encoder.startswith(TIMM_PREFIX) or not timm.is_model(encoder):
        return encoder
    return TIMM_PREFIX + encoder


def build(spec: ModelSpec) -> nn.Module:
    """The network of `spec` with random weights.

    Input float32 (N, input_depth, H, W), H and W multiples of `stride(spec)`; output logits
    (N, classes, H, W). It has the parts `encoder`, `decoder` and `segmentation_head`. Raises
    `UnsupportedModel` with what would work.
    """
    decoder = decoder_of(spec)
    _refuse_encoder(spec, decoder)
    _refuse_options(spec, decoder)
    try:
        model: nn.Module = smp.create_model(
            decoder.architecture,
            encoder_name=smp_name(spec.encoder),
            encoder_weights=None,
            in_channels=spec.input_depth,
            classes=spec.classes,
            **{**decoder.defaults, **encoder_arguments(spec), **spec.options},
        )
    except _REFUSALS as error:
        raise UnsupportedModel(_refusal(spec, decoder, error)) from error
    _drop_unused_layers(model)
    if spec.encoder == "unet" and decoder.name == "unetplusplus":
        _end_at_full_resolution(model)
    return model


def encoder_arguments(spec: ModelSpec) -> dict[str, Any]:
    """What a timm encoder must be told to take any image size and to fit DPT's scales.

    DPT reassembles at scales 4, 8, 16 and 32, which only patches of 16 px fit: patch-14 models
    (DINOv2, EVA-02) are built with patches of 16, and timm resamples their weights on loading.
    """
    if spec.encoder == "unet" and spec.decoder == "fpn":
        return {"upsampling": 2}  # its pyramid ends at half the image's size, where others end at a quarter
    name = _timm_name(spec.encoder)
    if spec.decoder != "dpt" or name is None:
        return {}
    if not _PLAIN_VIT.match(name):
        return {"decoder_readout": "ignore"}  # no class token to read out
    if "dinov3" in name:
        return {}  # its rotary embedding takes any size
    if "patch14" in name:
        return {"img_size": 512, "patch_size": 16, "dynamic_img_size": True}
    return {"dynamic_img_size": True}


def _timm_name(encoder: str) -> str | None:
    encoder = smp_name(encoder)
    return encoder.removeprefix(TIMM_PREFIX) if encoder.startswith(TIMM_PREFIX) else None


def _refuse_encoder(spec: ModelSpec, decoder: Decoder) -> None:
    """Unknown names, and encoders that would only fail later, in the middle of a training."""
    name = _timm_name(spec.encoder)
    if name is None:
        if spec.encoder not in smp.encoders.encoders:
            raise UnsupportedModel(_no_encoder(spec, decoder))
        return
    if not timm.is_model(name.split(".")[0]):
        raise UnsupportedModel(_no_encoder(spec, decoder))
    if decoder.name != "dpt" and _PLAIN_VIT.match(name):
        raise UnsupportedModel(
            f"{spec.encoder} is a plain vision transformer and has no feature pyramid for {decoder.name}; "
            "use the decoder dpt."
        )
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True)
    resizable = {"dynamic_img_size", "img_size"} & (encoder_arguments(spec).keys() | spec.options.keys())
    if settings is not None and settings.fixed_input_size and not resizable and "dinov3" not in name:
        raise UnsupportedModel(
            f"{spec.encoder} takes images of one size only, {settings.input_size[1:]} px; {decoder.name} "
            f"works with {decoder.works_with}."
        )


def _no_encoder(spec: ModelSpec, decoder: Decoder) -> str:
    """The names we test are suggested first, then all there are."""
    known = [*smp.encoders.encoders, *timm.list_models()]
    asked = spec.encoder.removeprefix(TIMM_PREFIX)
    return (
        f"There is no encoder named {spec.encoder!r}; {decoder.name} works with {decoder.works_with}."
        f"{suggestion(asked, NAMED_ENCODERS) or suggestion(asked, known)}"
    )


def _refuse_options(spec: ModelSpec, decoder: Decoder) -> None:
    """smp swallows unknown options in silence, except that timm encoders receive them."""
    if str(spec.options.get("decoder_use_norm", "batchnorm")).lower() in _SEAMS:
        raise UnsupportedModel(
            f"decoder_use_norm is {spec.options['decoder_use_norm']}, which looks at each tile's own mean "
            "and so leaves seams between the tiles of a large image; use batchnorm."
        )
    if _timm_name(spec.encoder) is not None:
        return
    network = smp.MODEL_ARCHITECTURES_MAPPING[decoder.architecture]
    known = [name for name in inspect.signature(network.__init__).parameters if name not in _OURS]
    unknown = sorted(spec.options.keys() - set(known))
    if unknown:
        raise UnsupportedModel(
            f"{decoder.name} with {spec.encoder} has no option {', '.join(unknown)}; "
            f"it has {', '.join(known)}."
        )


def _refusal(spec: ModelSpec, decoder: Decoder, error: BaseException) -> str:
    options = f" with options {spec.options}" if spec.options else ""
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return (
        f"Encoder {spec.encoder!r} with decoder {decoder.name!r}{options} cannot be built: {reason}. "
        f"{decoder.name} works with {decoder.works_with}."
    )


def _drop_unused_layers(model: nn.Module) -> None:
    """Remove what only the classifier used: no gradient reaches it, and DDP would wait for one."""
    encoder: Any = model.encoder
    if isinstance(encoder, TimmViTEncoder) and hasattr(encoder.model, "prune_intermediate_layers"):
        encoder.model.prune_intermediate_layers(encoder._output_indices, prune_norm=True, prune_head=True)
    if isinstance(encoder, EfficientNetEncoder):
        del encoder._conv_head, encoder._bn1
    if isinstance(model.decoder, UnetPlusPlusDecoder):
        model.decoder.center = nn.Identity()  # built for VGG, never called


def _end_at_full_resolution(model: nn.Module) -> None:
    """smp's UNet++ doubles once more after the last skip, which here has the image's size already."""
    blocks: Any = model.get_submodule("decoder.blocks")
    last = f"x_0_{len(model.get_submodule('encoder.levels')) - 1}"  # type: ignore[arg-type]
    blocks[last] = nn.Sequential(blocks[last].conv1, blocks[last].conv2, blocks[last].attention2)
