"""From scratch, with a frozen encoder, and with an encoder that learns more slowly than the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micrographs import write_manifest
from safetensors.torch import load_file, save_file

from model_zoo.architectures import build
from model_zoo.card import ModelSpec
from training.config import BadConfig, TrainingConfig, load_config
from training.data.manifest import Manifest
from training.fitting.norms import settle_norms
from training.fitting.parameter_groups import parameter_groups
from training.supervised import train

SPEC = ModelSpec(encoder="tu-test_resnet", classes=3, options={"decoder_channels": [64, 32, 16, 16, 8]})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_manifest(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that somebody trained."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    network = build(SPEC)
    settle_norms(network, [(torch.rand(4, 1, 64, 64), None)])
    save_file(network.encoder.state_dict(), path)
    return path


def config(*overrides: str) -> TrainingConfig:
    return load_config("test", ["max_steps=4", "minutes=60", "threads=1", *overrides])


def encoder_in(folder: Path) -> dict[str, torch.Tensor]:
    state = load_file(folder / "model.safetensors")
    return {n.removeprefix("encoder."): t for n, t in state.items() if n.startswith("encoder.")}


@pytest.mark.slow
def test_a_frozen_encoder_stays_as_it_was_norms_and_all(
    data: Manifest, encoder: Path, tmp_path: Path
) -> None:
    card = train(data, config("mode=finetune_frozen", f"weights={encoder}"), tmp_path)
    assert card.metrics["mode"] == "finetune_frozen"
    given = load_file(encoder)
    found = encoder_in(tmp_path)
    for name, tensor in given.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_it_may_learn_from_a_share_of_the_budget_on(data: Manifest, encoder: Path, tmp_path: Path) -> None:
    overrides = ["mode=finetune_frozen", f"weights={encoder}", "unfreeze_at=0.5"]
    train(data, config(*overrides), tmp_path)
    given, found = load_file(encoder), encoder_in(tmp_path)
    assert not found["model.layer1.0.conv1.weight"].equal(given["model.layer1.0.conv1.weight"])
    assert not found["model.conv1.1.running_mean"].equal(given["model.conv1.1.running_mean"])


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "mode"), [("none", "scratch"), ("a file", "finetune_differential")])
def test_the_mode_follows_from_what_was_loaded(
    data: Manifest, encoder: Path, tmp_path: Path, weights: str, mode: str
) -> None:
    asked = encoder if weights == "a file" else weights
    card = train(data, config(f"weights={asked}", "max_steps=1"), tmp_path)
    assert card.metrics["mode"] == mode


@pytest.mark.fast
def test_an_encoder_without_weights_is_not_frozen_in_silence(data: Manifest, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nothing was trained; set `mode` to auto .*no weights file"):
        train(data, config("mode=finetune_frozen", "weights=nowhere.safetensors"), tmp_path)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("encoder", "decoder", "blocks"),
    [
        ("tu-test_resnet", "unet", ["conv1", "layer1", "layer2", "layer3", "layer4"]),
        ("tu-test_vit", "dpt", ["cls_token", *(f"blocks.{n}" for n in range(6))]),
    ],
)
def test_lower_blocks_of_the_encoder_learn_more_slowly(encoder: str, decoder: str, blocks: list[str]) -> None:
    network = build(ModelSpec(encoder=encoder, decoder=decoder, classes=2))
    settings = config("lr=1e-3", "encoder_lr_scale=0.5", "layer_decay=0.8")
    groups = parameter_groups(network, settings, pretrained=True)
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    rates = {name: rate_of[id(parameter)] for name, parameter in network.named_parameters()}
    assert len(rate_of) == len(rates)
    for height, block in enumerate(reversed(blocks)):
        found = {rate for name, rate in rates.items() if name.startswith(f"encoder.model.{block}")}
        assert sorted(found) == pytest.approx([1e-3 * 0.5 * 0.8**height]), block
    assert {rate for name, rate in rates.items() if not name.startswith("encoder.")} == {1e-3}
