from __future__ import annotations

import hashlib
import logging
import pickle
import threading
from pathlib import Path

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model_zoo import download, hub
from model_zoo.architectures import build
from model_zoo.card import ModelSpec
from model_zoo.errors import WeightsUnavailable
from model_zoo.weights import load_encoder_weights, load_or_random

SHARED = Path(__file__).parents[3] / "shared" / "weights" / "mobilenet_v2_imagenet.safetensors"


def encoder_file(path: Path, encoder: str = "resnet18") -> tuple[Path, nn.Module]:
    torch.manual_seed(5)
    encoder_ = smp.encoders.get_encoder(encoder, in_channels=3, weights=None)
    save_file({name: tensor.contiguous() for name, tensor in encoder_.state_dict().items()}, path)
    return path, encoder_.eval()


@pytest.fixture
def resnet(tmp_path: Path) -> tuple[Path, nn.Module]:
    return encoder_file(tmp_path / "resnet18.safetensors")


def loaded(path: Path, **fields: object) -> nn.Module:
    spec = ModelSpec.model_validate({"encoder": "resnet18", "classes": 2} | fields)
    model = build(spec).eval()
    load_encoder_weights(model, spec, str(path))
    return model.get_submodule("encoder")


def test_what_was_loaded_is_recorded(resnet: tuple[Path, nn.Module]) -> None:
    spec = ModelSpec(encoder="resnet18", classes=2)
    record = load_encoder_weights(build(spec), spec, str(resnet[0]))
    assert record.asked == str(resnet[0])
    assert record.loaded == hashlib.sha256(resnet[0].read_bytes()).hexdigest()
    assert load_encoder_weights(build(spec), spec, "none").loaded == "none"


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_a_stack_of_equal_frames_is_seen_as_the_grey_image_the_weights_know(
    resnet: tuple[Path, nn.Module], depth: int
) -> None:
    path, original = resnet
    grey = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        expected = original(grey.repeat(1, 3, 1, 1))[1:]
        found = loaded(path, input_depth=depth)(grey.repeat(1, depth, 1, 1))[1:]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_pth_file_and_a_whole_model_load_too(resnet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    _, original = resnet
    layer = "layer4.1.conv2.weight"
    expected = original.state_dict()[layer]
    classifier = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save({"state_dict": original.state_dict() | classifier}, tmp_path / "checkpoint.pth")
    whole: dict[str, Tensor] = {f"encoder.{name}": t for name, t in original.state_dict().items()}
    save_file(whole | {"decoder.x": torch.zeros(1)}, tmp_path / "whole.safetensors")
    for file in ("checkpoint.pth", "whole.safetensors"):
        assert torch.equal(loaded(tmp_path / file).state_dict()[layer], expected)


@pytest.mark.parametrize(
    ("encoder", "decoder", "name", "ours"),
    [
        ("tu-test_resnet", "unet", "test_resnet", "model.layer4.0.conv2.weight"),
        ("tu-test_vit", "dpt", "test_vit", "model.blocks.0.attn.qkv.weight"),
        ("tu-vit_small_patch14_dinov2", "dpt", "vit_small_patch14_dinov2", "model.blocks.3.attn.qkv.weight"),
    ],
)
def test_timm_checkpoints_are_renamed_and_resampled(
    encoder: str, decoder: str, name: str, ours: str, tmp_path: Path
) -> None:
    source = timm.create_model(name, pretrained=False)
    save_file(source.state_dict(), tmp_path / "timm.safetensors")
    found = loaded(tmp_path / "timm.safetensors", encoder=encoder, decoder=decoder).state_dict()
    assert torch.equal(found[ours], source.state_dict()[ours.removeprefix("model.")])


def test_frames_of_our_own_weights_are_not_mixed(tmp_path: Path) -> None:
    spec = ModelSpec(encoder="resnet18", classes=2, input_depth=3)
    state = {name: t.contiguous() for name, t in build(spec).get_submodule("encoder").state_dict().items()}
    save_file(state, tmp_path / "frames.safetensors", metadata={"input_depth": "3"})
    found = loaded(tmp_path / "frames.safetensors", input_depth=3).state_dict()
    assert torch.equal(found["conv1.weight"], state["conv1.weight"])


def test_files_that_do_not_fit_are_refused_and_change_nothing(
    resnet: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    for path in (resnet[0], *(tmp_path / n for n in ("text.safetensors", "empty.pth", "list.pth", "no.pth"))):
        spec = ModelSpec(encoder="mobilenet_v2", classes=2)
        model = build(spec)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(WeightsUnavailable, match=path.name):
            load_encoder_weights(model, spec, str(path))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("sprung"),))  # type: ignore[return-value]


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"w": Trap()}, protocol=2))
    with pytest.raises(WeightsUnavailable):
        loaded(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_offline_is_told_at_once_with_the_way_out(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    spec = ModelSpec(encoder="resnet18", classes=2)
    with pytest.raises(WeightsUnavailable, match="--weights FILE"):
        load_encoder_weights(build(spec), spec, "imagenet")
    with caplog.at_level(logging.WARNING):
        record = load_or_random(build(spec), spec, "imagenet")
    assert (record.asked, record.loaded) == ("imagenet", "none")
    assert "--weights FILE" in record.note
    assert "random weights" in caplog.text


def test_an_unreachable_hub_is_given_up_within_seconds(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "WAIT", 0.2)
    released = threading.Event()

    def black_hole(*_: object, **__: object) -> None:
        released.wait(60)
        raise OSError("never")

    monkeypatch.setattr("urllib.request.urlopen", black_hole)
    with pytest.raises(WeightsUnavailable, match="did not answer"):
        hub.pretrained_file("resnet18")
    released.set()
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    for encoder in ("resnet18", "tu-resnet18"):
        with pytest.raises(WeightsUnavailable, match="no route"):
            hub.pretrained_file(encoder)


def test_cached_weights_are_used_without_asking_the_hub(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    settings = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    folder = empty_cache / "models--smp-hub--resnet18.imagenet" / "snapshots" / settings["revision"]
    folder.mkdir(parents=True)
    _, original = encoder_file(folder / "model.safetensors")
    spec = ModelSpec(encoder="resnet18", classes=2)
    model = build(spec)
    record = load_encoder_weights(model, spec, "imagenet")
    assert record.loaded == "imagenet"
    assert settings["repo_id"] in record.note
    found = model.get_submodule("encoder").state_dict()["layer1.0.conv1.weight"]
    assert torch.equal(found, original.state_dict()["layer1.0.conv1.weight"])


@pytest.mark.skipif(not SHARED.is_file(), reason=f"{SHARED.name} is not beside the repository")
@pytest.mark.parametrize("depth", [1, 5])
def test_real_imagenet_weights_load(depth: int) -> None:
    spec = ModelSpec(encoder="mobilenet_v2", classes=2, input_depth=depth)
    model = build(spec)
    record = load_encoder_weights(model, spec, str(SHARED))
    assert len(record.loaded) == 64
    first = model.get_submodule("encoder").state_dict()["features.0.0.weight"]
    assert first.shape == (32, depth, 3, 3)
    assert first.abs().sum() > 1
