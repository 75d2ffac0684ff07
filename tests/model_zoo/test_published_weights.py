"""MicroNet from a server of our own, and the folders weights may lie in."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import torch
from model_folders import card_of
from safetensors.torch import save_file
from torch import nn

from model_zoo import micronet
from model_zoo.architectures import build
from model_zoo.card import ModelSpec
from model_zoo.errors import WeightsUnavailable
from model_zoo.store import save_model
from model_zoo.weights import load_encoder_weights

NAME = "resnet18_pretrained_microscopynet_v1.0.pth.tar"
SPEC = ModelSpec(encoder="resnet18", classes=2)
LAYER = "layer4.1.conv2.weight"


def resnet18() -> nn.Module:
    torch.manual_seed(5)
    encoder: nn.Module = smp.encoders.get_encoder("resnet18", in_channels=3, weights=None)
    return encoder


def as_file(encoder: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save({f"module.{name}": tensor for name, tensor in encoder.state_dict().items()}, buffer)
    return buffer.getvalue()


class Server:
    """Answers `body` with `announced` as its length; counts what it was asked."""

    def __init__(self) -> None:
        self.body, self.announced, self.status = b"", None, 200
        self.asked: list[str] = []


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(f"{self.command} {self.path}")
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.announced or len(state.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(state.body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setattr(micronet, "ADDRESS", f"http://127.0.0.1:{http.server_port}/")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield state
        http.shutdown()
        thread.join()


def test_micronet_is_downloaded_once_and_recorded(server: Server) -> None:
    original = resnet18()
    server.body = as_file(original)
    for _ in range(2):
        model = build(SPEC)
        record = load_encoder_weights(model, SPEC, "micronet")
        assert torch.equal(model.get_submodule("encoder").state_dict()[LAYER], original.state_dict()[LAYER])
    assert (record.loaded, record.licence) == ("micronet", "MIT")
    assert NAME in record.note
    assert "sha256" in record.note
    assert server.asked == [f"HEAD /{NAME}", f"GET /{NAME}"]
    assert [path.name for path in micronet.cache_folder().iterdir()] == [NAME]


def truncated(server: Server) -> None:
    server.announced = len(server.body) + 1000


def not_weights(server: Server) -> None:
    server.body = b"<html>moved</html>"


def huge(server: Server) -> None:
    server.announced = 2 * micronet.MOST_BYTES


def missing(server: Server) -> None:
    server.status = 404


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (truncated, "bytes"),
        (not_weights, "cannot be read as weights"),
        (huge, "larger than"),
        (missing, "404"),
    ],
)
def test_a_bad_download_is_one_sentence_and_no_file(
    server: Server, fault: Callable[[Server], None], told: str
) -> None:
    server.body = as_file(resnet18())
    fault(server)
    with pytest.raises(WeightsUnavailable, match=told) as refusal:
        load_encoder_weights(build(SPEC), SPEC, "micronet")
    assert "--weights FILE" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not micronet.cache_folder().exists() or not list(micronet.cache_folder().iterdir())


def test_offline_and_unknown_encoders_ask_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsUnavailable, match="HF_HUB_OFFLINE"):
        load_encoder_weights(build(SPEC), SPEC, "micronet")
    spec = ModelSpec(encoder="unet", classes=2)
    with pytest.raises(WeightsUnavailable, match=r"there are of densenet121.*resnet18"):
        load_encoder_weights(build(spec), spec, "micronet")
    assert server.asked == []


@pytest.mark.fast
def test_files_are_named_as_nasa_names_them() -> None:
    assert micronet.file_name("resnet50", "micronet") == "resnet50_pretrained_microscopynet_v1.1.pth.tar"
    named = micronet.file_name("se_resnet50", "image-micronet")
    assert named == "se_resnet50_pretrained_imagenet-microscopynet_v1.0.pth.tar"
    assert {"efficientnet-b6"} & set(micronet.encoders("image-micronet"))
    assert set(micronet.encoders("image-micronet")) <= set(smp.encoders.get_encoder_names())


def loaded(asked: str | Path, spec: ModelSpec = SPEC) -> dict[str, torch.Tensor]:
    model = build(spec)
    load_encoder_weights(model, spec, str(asked))
    return dict(model.get_submodule("encoder").state_dict())


def test_folders_of_models_snapshots_and_single_files(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in resnet18().state_dict().items()}
    for name in ("model.safetensors", "checkpoint.safetensors"):
        folder = tmp_path / name.removesuffix(".safetensors")
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        save_file(state, folder / name)
        assert torch.equal(loaded(folder)[LAYER], state[LAYER])
    save_file(state, folder / "another.safetensors")
    with pytest.raises(WeightsUnavailable, match=r"another\.safetensors, checkpoint\.safetensors, config"):
        loaded(folder)


def test_a_model_of_ours_gives_its_encoder_with_its_frames_in_order(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"input_depth": 3})
    model = build(spec)
    save_model(model, tmp_path)
    card_of(spec).write(tmp_path)
    expected = model.get_submodule("encoder").state_dict()
    assert torch.equal(loaded(tmp_path, spec)["conv1.weight"], expected["conv1.weight"])
    assert loaded(tmp_path)["conv1.weight"].shape[1] == 1
    with pytest.raises(WeightsUnavailable, match="--encoder resnet18"):
        loaded(tmp_path, ModelSpec(encoder="mobilenet_v2", classes=2))


def test_a_self_supervised_run_is_found_by_folder_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "ssl" / "pool"
    run.mkdir(parents=True)
    spec = ModelSpec(encoder="unet", classes=2, input_depth=5)
    state = {n: t.contiguous() for n, t in build(spec).get_submodule("encoder").state_dict().items()}
    save_file(state, run / "encoder.safetensors")
    (run / "encoder.json").write_text(json.dumps({"encoder": "U-Net", "input_depth": 5}))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    for asked in ("ssl:pool", f"ssl:{run}", run):
        assert all(torch.equal(tensor, state[name]) for name, tensor in loaded(asked, spec).items())
    with pytest.raises(WeightsUnavailable, match="pool"):
        loaded("ssl:poll", spec)
    (run / "encoder.json").write_text("[]")
    with pytest.raises(WeightsUnavailable, match=r"encoder\.json"):
        loaded(run, spec)
