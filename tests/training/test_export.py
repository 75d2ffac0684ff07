"""`export`: a file for other programs, that says itself how it must be fed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from micrographs import write_manifest

import training.predicting.export
from model_zoo.card import STATE_NAME, ModelSpec, Normalisation
from model_zoo.inference import Predictor
from model_zoo.integrity import sha256_of
from model_zoo.normalisation import normalise
from tests.model_zoo.model_folders import TINY, write_model
from training.__main__ import main
from training.data.micrograph import read_micrograph
from training.predicting.export import read_metadata


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = ModelSpec(encoder="tu-test_resnet", classes=3, options=TINY)
    return write_model(tmp_path_factory.mktemp("model"), spec)


def test_another_program_can_feed_it_by_what_it_says(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "alloy.onnx"
    assert main(["export", "--model", str(model), "--out", str(out)]) == 0
    told = read_metadata(out)
    beside = json.loads(out.with_suffix(".json").read_text())
    assert beside["card"] == told
    assert beside["onnx_sha256"] == sha256_of(out)
    assert told["weights_sha256"] == sha256_of(model / STATE_NAME)
    image = np.random.default_rng(0).integers(0, 256, (2 * told["stride"], 3 * told["stride"]), np.uint8)
    fed = normalise(image[None], Normalisation.model_validate(told["normalisation"]))
    (logits,) = onnxruntime.InferenceSession(str(out)).run(["logits"], {"image": fed[None]})
    np.testing.assert_array_equal(
        logits[0].argmax(0), Predictor.load(model, "torch").predict(image).class_map
    )


def test_it_is_compared_on_the_users_images_at_two_sizes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path / "images")
    arguments = ["--model", str(model), "--out", str(tmp_path / "a.onnx"), "--json"]
    assert main(["export", *arguments, "--check-images", str(tmp_path / "images")]) == 0
    agreement = json.loads(capsys.readouterr().out)["agreement"]
    assert (agreement["source"], agreement["images"]) == ("images", len(manifest.samples))
    assert len(agreement["sizes"]) == 2
    assert agreement["equal_pixels"] > 0.9999
    assert read_micrograph(manifest.samples[0].image).shape == (96, 80)


def test_a_file_that_answers_otherwise_is_not_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = training.predicting.export.load_model

    def another(folder: Path) -> torch.nn.Module:
        network = load(folder)
        exported = network.state_dict()
        monkeypatch.setattr(training.predicting.export, "export_onnx", lambda *_: _spoilt(exported, *_))
        return network

    def _spoilt(
        state: dict[str, torch.Tensor], network: torch.nn.Module, spec: ModelSpec, folder: Path
    ) -> Path:
        path = export(network, spec, folder)
        with torch.no_grad():
            next(reversed(list(network.parameters()))).add_(torch.tensor([0.0, 5.0, 0.0]))
        return path

    export = training.predicting.export.export_onnx
    monkeypatch.setattr(training.predicting.export, "load_model", another)
    assert main(["export", "--model", str(model), "--out", str(tmp_path / "a.onnx")]) == 1
    assert "is not written: on 2 simulated micrographs it differs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.pt"], "end it in .onnx"),
        (["--out", "a.onnx", "--check-images", "nowhere"], "nowhere does not exist"),
        (["--out", "a.onnx", "--model", "nowhere"], "nowhere is not a model"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    said: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--model", str(model), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
