"""Every named encoder with every decoder: it works, or it is refused with what does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model_zoo.architectures import build, stride
from model_zoo.card import ModelSpec
from model_zoo.errors import UnsupportedModel
from model_zoo.names import DECODER_NAMES, NAMED_ENCODERS, decoder_name, encoder_name

SMALL = {"resnet18", "mobilenet_v2", "efficientnet-b0"}
PAIRS = [
    pytest.param(encoder, decoder, marks=pytest.mark.fast if encoder in SMALL else pytest.mark.slow)
    for encoder in NAMED_ENCODERS
    for decoder in DECODER_NAMES
]


def combines(encoder: str, decoder: str) -> bool:
    if encoder.startswith("dino") or decoder == "dpt":
        return encoder.startswith("dino") and decoder == "dpt"
    return (encoder, decoder) != ("unet", "deeplabv3plus")


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_it_learns_in_every_parameter_or_is_refused(encoder: str, decoder: str) -> None:
    torch.set_num_threads(1)
    spec = ModelSpec(encoder=encoder, decoder=decoder, classes=3)
    if not combines(encoder, decoder):
        with pytest.raises(UnsupportedModel, match=r"works with|use the decoder dpt"):
            build(spec)
        return
    model = build(spec).train()
    logits = model(torch.randn(2, 1, stride(spec) * 2, stride(spec)))
    assert logits.shape == (2, 3, stride(spec) * 2, stride(spec))
    logits.square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("encoder", ["unet", "resnet18", "efficientnet-b0", "mobilenet_v2", "dinov2-small"])
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_stacks_of_any_depth_go_in(encoder: str, depth: int) -> None:
    decoder = "dpt" if encoder.startswith("dino") else "fpn"
    spec = ModelSpec(encoder=encoder, decoder=decoder, classes=2, input_depth=depth)
    with torch.inference_mode():
        assert build(spec).eval()(torch.randn(1, depth, 64, 96)).shape == (1, 2, 64, 96)


@pytest.mark.parametrize("encoder", ["unet", "resnet18"])
def test_a_frozen_encoder_keeps_its_statistics(encoder: str) -> None:
    model = build(ModelSpec(encoder=encoder, classes=2))
    frozen: nn.Module = model.get_submodule("encoder").requires_grad_(False).eval()
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    model(torch.randn(2, 1, 64, 64)).mean().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())


@pytest.mark.fast
def test_names_are_told_by_letters_and_digits() -> None:
    assert {decoder_name(name) for name in ("DeepLabV3+", "deeplab_v3_plus")} == {"deeplabv3plus"}
    assert {decoder_name(name) for name in ("unet++", "U-Net++", "UnetPlusPlus")} == {"unetplusplus"}
    assert {encoder_name(name) for name in ("ResNet-34", "resnet34")} == {"resnet34"}
    assert encoder_name("DINOv2 small") == "tu-vit_small_patch14_dinov2"
    assert ModelSpec(encoder="convnext_atto", classes=2).encoder == "convnext_atto"
