"""What every encoder × decoder keeps; a new pair is a new line in PAIRS and inherits all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_folders import TINY, write_model
from torch import nn

from model_zoo.architectures import build, decoders, stride
from model_zoo.card import ModelSpec
from model_zoo.errors import UnsupportedModel
from model_zoo.inference import Predictor
from model_zoo.store import load_model

PAIRS = {
    "unet × tiny": ModelSpec(encoder="tu-test_resnet", classes=2, options=TINY),
    "unet × resnet18, 3 frames": ModelSpec(encoder="resnet18", classes=4, input_depth=3),
    "unet × classic U-Net": ModelSpec(
        encoder="unet", classes=2, options={"encoder_depth": 3, "decoder_channels": [32, 16, 8]}
    ),
    "unetplusplus × classic U-Net": ModelSpec(
        encoder="unet",
        decoder="unetplusplus",
        classes=2,
        options={"encoder_depth": 3, "decoder_channels": [32, 16, 8]},
    ),
    "fpn × classic U-Net": ModelSpec(encoder="unet", decoder="fpn", classes=2),
    "unet × efficientnet-b0": ModelSpec(encoder="efficientnet-b0", classes=3),
    "unet × convnext": ModelSpec(encoder="tu-convnext_atto", classes=3),
    "unet of depth 3": ModelSpec(
        encoder="tu-test_resnet", classes=2, options={"encoder_depth": 3, "decoder_channels": [32, 16, 8]}
    ),
    "deeplabv3plus × mobilenet_v2": ModelSpec(encoder="mobilenet_v2", decoder="deeplabv3plus", classes=3),
    "unetplusplus × tiny": ModelSpec(
        encoder="tu-test_resnet", decoder="unetplusplus", classes=3, options=TINY
    ),
    "fpn × tiny, 5 frames": ModelSpec(encoder="tu-test_resnet", decoder="fpn", classes=3, input_depth=5),
    "dpt × ViT": ModelSpec(encoder="tu-test_vit", decoder="dpt", classes=3),
    "dpt × DINOv3": ModelSpec(encoder="tu-vit_tiny_patch16_dinov3_qkvb", decoder="dpt", classes=3),
    "dpt × DINOv2": ModelSpec(encoder="tu-vit_small_patch14_dinov2", decoder="dpt", classes=3),
}


@pytest.fixture(scope="module", params=PAIRS.values(), ids=PAIRS.keys())
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    torch.set_num_threads(1)
    return ModelSpec.model_validate(request.param)


@pytest.fixture(scope="module")
def folder(spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), spec)


def images(spec: ModelSpec, *strides: int) -> torch.Tensor:
    height, width = (count * stride(spec) for count in strides)
    return torch.randn(2, spec.input_depth, height, width, generator=torch.Generator().manual_seed(1))


def test_logits_have_the_size_of_the_image_and_a_channel_a_class(spec: ModelSpec) -> None:
    logits = build(spec).eval()(images(spec, 1, 3))
    assert logits.shape == (2, spec.classes, stride(spec), 3 * stride(spec))


def test_gradients_reach_every_parameter(spec: ModelSpec) -> None:
    model = build(spec).train()
    model(images(spec, 2, 2)).square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_saved_model_answers_as_before(spec: ModelSpec, folder: Path) -> None:
    model, again = load_model(folder), load_model(folder)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(model(images(spec, 2, 2)), again(images(spec, 2, 2)))
    assert not again.training


def test_onnx_and_torch_agree_on_images_of_any_size(spec: ModelSpec, folder: Path) -> None:
    onnx, torch_ = Predictor.load(folder, "onnx", threads=1), Predictor.load(folder, "torch", threads=1)
    random = np.random.default_rng(0)
    for height, width in ((97, 131), (64, 64), (1, 17)):
        stack = random.integers(0, 256, (spec.input_depth, height, width), dtype=np.uint8)
        ours, theirs = onnx.predict(stack), torch_.predict(stack)
        assert ours.class_map.shape == (height, width)
        assert ours.probabilities.shape == (spec.classes, height, width)
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
        np.testing.assert_allclose(ours.probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "decoder", "options", "told"),
    [
        ("resnet18", "segnet", {}, "unet, unetplusplus, fpn, deeplabv3plus, dpt"),
        ("resnet1", "unet", {}, "resnet18/34/50"),
        ("tu-resnet1", "unet", {}, "resnet18/34/50"),
        ("resnet34", "dpt", {}, "tu-vit_small_patch14_dinov2"),
        ("tu-vit_small_patch14_dinov2", "unet", {}, "use the decoder dpt"),
        ("densenet121", "deeplabv3plus", {}, "mobilenet_v2"),
        ("tu-hrnet_w18", "deeplabv3plus", {}, "mobilenet_v2"),
        ("mit_b0", "unetplusplus", {}, "resnet18/34/50"),
        ("tu-swin_tiny_patch4_window7_224", "unet", {}, "one size only"),
        ("resnet18", "unet", {"decoder_chanels": [1]}, "decoder_channels"),
        ("tu-test_resnet", "unet", {"decoder_chanels": [1]}, "decoder_chanels"),
        ("unet", "deeplabv3plus", {}, "mobilenet_v2"),
        ("unet", "dpt", {}, "dinov2-small"),
        ("resnet43", "unet", {}, "Did you mean resnet34"),
        ("convnext_tinny", "unet", {}, "Did you mean convnext_tiny"),
        ("resnet18", "deeplab", {}, "Did you mean deeplabv3plus"),
        ("resnet18", "unet", {"decoder_use_norm": "instancenorm"}, "seams"),
        ("resnet18", "unet", {"decoder_channels": [8, 8]}, "for 2 blocks"),
    ],
)
def test_what_does_not_combine_is_refused_with_what_does(
    encoder: str, decoder: str, options: dict[str, object], told: str
) -> None:
    with pytest.raises(UnsupportedModel) as refusal:
        build(ModelSpec(encoder=encoder, decoder=decoder, classes=2, options=options))
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_building_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert isinstance(build(ModelSpec(classes=2)), nn.Module)


def test_every_decoder_is_under_contract() -> None:
    assert {pair.decoder for pair in PAIRS.values()} == set(decoders())
