from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from model_folders import card_of
from torch import Tensor, nn

from model_zoo.architectures import build
from model_zoo.card import ONNX_NAME, STATE_NAME, ModelSpec
from model_zoo.errors import BrokenModel
from model_zoo.store import export_onnx, load_model, save_model


def test_a_folder_without_its_weights_is_broken(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / STATE_NAME).unlink()
    with pytest.raises(BrokenModel, match=STATE_NAME):
        load_model(folder)
    (folder / STATE_NAME).write_bytes(b"torn")
    with pytest.raises(BrokenModel, match=STATE_NAME):
        load_model(folder)


def test_weights_of_another_architecture_are_refused(
    tiny_model: Path, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    shutil.copy(tiny_model / STATE_NAME, tmp_path)
    card_of(tiny_spec.model_copy(update={"classes": 4})).write(tmp_path)
    with pytest.raises(BrokenModel):
        load_model(tmp_path)


def test_tied_tensors_survive(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    model = build(tiny_spec)
    first, second = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.num_features == 16][:2]
    second.weight = first.weight
    save_model(model, tmp_path)
    card_of(tiny_spec).write(tmp_path)
    again = load_model(tmp_path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_exporting_leaves_the_model_as_it_was(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    model = build(tiny_spec).train()
    export_onnx(model, tiny_spec, tmp_path)
    assert model.training
    assert [path.name for path in tmp_path.iterdir()] == [ONNX_NAME]


class Specialised(nn.Module):
    """Traces to a graph that is right at the traced size alone."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image, image], dim=1) * float(image.shape[2] == 64)


class Unexportable(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.special.bessel_j0(image)


@pytest.mark.parametrize("model", [Specialised(), Unexportable()])
def test_an_export_that_disagrees_leaves_no_file(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(BrokenModel):
        export_onnx(model, ModelSpec(classes=2), tmp_path)
    assert list(tmp_path.iterdir()) == []
