"""Training: what comes out, what survives a kill, and what is said when it cannot be done."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micrographs import CLASSES, picture, write_manifest, write_sample
from safetensors.torch import load_file

from model_zoo.card import ModelCard
from model_zoo.inference import Predictor
from model_zoo.store import load_model
from training.config import BadConfig, TrainingConfig, load_config
from training.data.dataset import LabelledImages, TrainingCrops, loader
from training.data.manifest import Manifest
from training.fitting import fit as fitting
from training.fitting.learner import Learner, TrainingDiverged, exponential_average
from training.fitting.parameter_groups import parameter_groups
from training.progress import Progress
from training.scoring.evaluation import evaluate
from training.supervised import NothingToTrainOn, train

pytestmark = pytest.mark.slow


def config(*overrides: str) -> TrainingConfig:
    return load_config("test", ["max_steps=6", "minutes=60", "threads=1", *overrides])


class Killed(BaseException):
    """Stands for a kill: nobody may catch it."""


def killed_at(step: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.stage == "train" and progress.step == step:
            raise Killed

    return report


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_manifest(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def uninterrupted(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    train(data, config(), out)
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0, msg=name)


def test_a_model_folder_comes_out(data: Manifest, uninterrupted: Path) -> None:
    assert {path.name for path in uninterrupted.iterdir()} == {
        "card.json",
        "config.yaml",
        "model.onnx",
        "model.safetensors",
        "tensorboard",
    }
    card = ModelCard.read(uninterrupted)
    assert card.version == ""
    assert card.data_hash == data.content_hash
    assert (card.training_images, card.holdout_images) == (3, 1)
    assert card.classes == CLASSES
    assert set(card.files) == {"model.safetensors", "model.onnx"}
    assert card.config["encoder"] == "tu-test_resnet"
    assert card.metrics["steps"] == 6
    assert card.metrics["crops"] == 24
    assert card.metrics["loss"] > 0
    assert 0 <= card.metrics["train_miou"] <= 1
    assert card.metrics["warnings"] == []
    assert len(card.code_version) == 12
    found = Predictor.load(uninterrupted).predict(picture(7)[0])
    assert found.class_map.shape == (96, 80)


def test_it_learns(tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "data", ["train", "train", "train", "train", "holdout", "holdout"])
    train(data, load_config("test", ["max_steps=80", "threads=1"]), tmp_path / "out")
    found = evaluate(Predictor.load(tmp_path / "out"), data, "holdout")
    assert found.miou is not None
    assert found.miou > 0.6


def test_the_same_seed_gives_the_same_model(data: Manifest, uninterrupted: Path, tmp_path: Path) -> None:
    train(data, config(), tmp_path / "again")
    assert_equal(tmp_path / "again", uninterrupted)
    train(data, config("seed=1"), tmp_path / "other")
    assert not weights(tmp_path / "other")["decoder.blocks.0.conv1.0.weight"].equal(
        weights(uninterrupted)["decoder.blocks.0.conv1.0.weight"]
    )


@pytest.mark.parametrize("step", [1, 2, 4, 6])
def test_a_training_that_was_killed_becomes_the_model_it_would_have_been(
    data: Manifest, uninterrupted: Path, tmp_path: Path, step: int
) -> None:
    with pytest.raises(Killed):
        train(data, config("checkpoint_seconds=0"), tmp_path, killed_at(step))
    steps: list[int] = []
    card = train(data, config(), tmp_path, lambda p: steps.append(p.step) if p.stage == "train" else None)
    assert card.metrics["steps"] == 6
    if step > 1:
        assert steps[0] == step  # the checkpoint is written before a step begins
    assert_equal(tmp_path, uninterrupted)


def test_what_dropout_leaves_out_does_not_depend_on_a_kill_either(data: Manifest, tmp_path: Path) -> None:
    settings = ["decoder=deeplabv3plus", "options.decoder_channels=16", "max_steps=3"]
    train(data, config(*settings), tmp_path / "whole")
    with pytest.raises(Killed):
        interrupted = config(*settings, "checkpoint_seconds=0")
        train(data, interrupted, tmp_path / "killed", killed_at(2))
    train(data, config(*settings), tmp_path / "killed")
    assert_equal(tmp_path / "killed", tmp_path / "whole")


def test_killed_while_exporting_it_need_not_learn_again(
    data: Manifest, uninterrupted: Path, tmp_path: Path
) -> None:
    def report(progress: Progress) -> None:
        if progress.stage == "export":
            raise Killed

    with pytest.raises(Killed):
        train(data, config(), tmp_path, report)
    assert not (tmp_path / "card.json").exists()
    stages: list[str] = []
    card = train(data, config(), tmp_path, lambda progress: stages.append(progress.stage))
    assert "train" not in stages
    assert card.metrics["steps"] == 6
    assert_equal(tmp_path, uninterrupted)


def test_a_finished_training_is_not_done_twice(data: Manifest, uninterrupted: Path) -> None:
    stages: list[str] = []
    card = train(data, config(), uninterrupted, lambda progress: stages.append(progress.stage))
    assert stages == ["done"]
    assert card == ModelCard.read(uninterrupted)


@pytest.mark.parametrize("change", ["lr=1e-4", "seed=3"])
def test_a_checkpoint_of_another_training_is_not_gone_on_from(
    data: Manifest, tmp_path: Path, change: str
) -> None:
    with pytest.raises(Killed):
        train(data, config("checkpoint_seconds=0"), tmp_path, killed_at(4))
    first: list[int] = []
    train(data, config(change), tmp_path, lambda p: first.append(p.step) if p.stage == "train" else None)
    assert first[0] == 1


def test_a_damaged_checkpoint_costs_the_progress_and_not_the_training(
    data: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 and no more")
    assert train(data, config(), tmp_path).metrics["steps"] == 6
    assert "cannot be read" in caplog.text


def test_time_ends_a_training_too(data: Manifest, tmp_path: Path) -> None:
    card = train(data, config("max_steps=null", "minutes=0.0001"), tmp_path)
    assert card.metrics["steps"] >= 1


def test_bfloat16_learns_as_well(data: Manifest, tmp_path: Path) -> None:
    card = train(data, config("precision=bfloat16", "max_steps=2"), tmp_path)
    assert np.isfinite(card.metrics["loss"])


def test_progress_is_reported_from_reading_to_the_end(data: Manifest, tmp_path: Path) -> None:
    reports: list[Progress] = []
    train(data, config("max_steps=3"), tmp_path, reports.append)
    stages = [report.stage for report in reports]
    assert list(dict.fromkeys(stages)) == ["read", "train", "export", "evaluate", "done"]
    steps = [report for report in reports if report.stage == "train"]
    assert [report.step for report in steps] == [1, 2, 3]
    assert steps[-1].fraction == 1.0
    assert steps[0].loss is not None
    assert steps[0].message.startswith("step 1, loss ")
    assert steps[0].eta_seconds is not None


def test_a_batch_that_does_not_fit_is_halved_and_said_so(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Learner.training_step

    def hungry(self: Learner, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(batch[0]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", hungry)
    card = train(data, config("batch_size=8"), tmp_path)
    assert card.metrics["crops"] == 12
    assert card.metrics["warnings"] == [
        "Memory did not suffice; going on with 4 crops a step.",
        "Memory did not suffice; going on with 2 crops a step.",
    ]


def test_when_nothing_fits_the_way_out_is_named(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Learner, "training_step", hungry)
    with pytest.raises(fitting.OutOfMemory, match="set a smaller `crop`"):
        train(data, config(), tmp_path)


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Learner, "training_step", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(data, config(), tmp_path)


def test_a_loss_that_is_no_number_ends_the_training_and_its_checkpoint(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fitting.DiceCrossEntropy.forward

    def diverging(self: Any, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return real(self, logits, truth) / (0 if diverging.calls.append(1) or len(diverging.calls) > 2 else 1)

    diverging.calls = []  # type: ignore[attr-defined]
    monkeypatch.setattr(fitting.DiceCrossEntropy, "forward", diverging)
    with pytest.raises(TrainingDiverged, match=r"inf at step 3: .*set `lr` to a third"):
        train(data, config("checkpoint_seconds=0"), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_without_labels_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a", picture(0)[0], None)
    with pytest.raises(NothingToTrainOn, match="None of the 1 samples"):
        train(Manifest(classes=CLASSES, samples=(sample,)), config(), tmp_path / "out")


def test_without_a_usable_image_the_first_problem_is_told(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a", picture(0)[0], picture(0, (40, 30))[1])
    with pytest.raises(NothingToTrainOn, match=r"None of the 1 labelled images can be used\. a is left out"):
        train(Manifest(classes=CLASSES, samples=(sample,)), config(), tmp_path / "out")


def test_a_single_class_is_no_segmentation(data: Manifest, tmp_path: Path) -> None:
    with pytest.raises(NothingToTrainOn, match="1 class;"):
        train(data.model_copy(update={"classes": CLASSES[:1]}), config(), tmp_path)


def test_a_class_that_nobody_labelled_is_warned_of(tmp_path: Path) -> None:
    image, truth = picture(0)
    truth[truth == 2] = 0
    manifest = Manifest(classes=CLASSES, samples=(write_sample(tmp_path, "a", image, truth),))
    card = train(manifest, config("max_steps=1"), tmp_path / "out")
    assert card.metrics["warnings"] == ["No training image shows pore, so the model cannot learn it."]


def test_one_labelled_class_alone_is_warned_of(tmp_path: Path) -> None:
    image, truth = picture(0)
    manifest = Manifest(
        classes=CLASSES, samples=(write_sample(tmp_path, "a", image, np.where(truth == 1, 1, 255)),)
    )
    card = train(manifest, config("max_steps=1"), tmp_path / "out")
    assert "Only particle is labelled" in card.metrics["warnings"][0]


def test_weights_that_cannot_be_had_are_warned_of_and_the_encoder_learns_faster(
    data: Manifest, tmp_path: Path
) -> None:
    card = train(data, config("max_steps=1", "weights=imagenet"), tmp_path)
    assert (card.weights.asked, card.weights.loaded) == ("imagenet", "none")
    assert card.metrics["warnings"][0].startswith("Trained from random weights.")


@pytest.mark.parametrize("name", ["crop", "tile"])
def test_a_side_that_does_not_fit_the_network_is_refused_with_one_that_does(
    data: Manifest, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadConfig, match=rf"`{name}` is 100 px, but .* multiples of 32; use 96"):
        train(data, config(f"{name}=100"), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(data: Manifest, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="torch sees no GPU"):
        train(data, config("device=cuda"), tmp_path)


def test_the_head_learns_ten_times_faster_than_a_pretrained_encoder() -> None:
    network = torch.nn.Module()
    network.encoder = torch.nn.Conv2d(1, 2, 3)
    network.head = torch.nn.Conv2d(2, 2, 1)
    settings = config("lr=1e-3", "weight_decay=0.1")
    groups = parameter_groups(network, settings, pretrained=True)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (pytest.approx(1e-4), 0.1),
        (pytest.approx(1e-4), 0.0),
        (1e-3, 0.1),
        (1e-3, 0.0),
    ]
    assert sum(len(group["params"]) for group in groups) == 4
    assert {group["lr"] for group in parameter_groups(network, settings, pretrained=False)} == {1e-3}


def test_the_average_follows_quickly_at_first_and_slowly_later() -> None:
    update = exponential_average(0.99)
    early, late = torch.zeros(1), torch.zeros(1)
    update([early], [torch.ones(1)], 1)
    update([late], [torch.ones(1)], 10_000)
    assert early.item() == pytest.approx(1 - 2 / 11)
    assert late.item() == pytest.approx(0.01)
    count = torch.zeros(1, dtype=torch.long)
    update([count], [torch.full((1,), 7)], 5)
    assert count.item() == 7


def test_batch_norms_are_measured_with_the_averaged_weights(
    data: Manifest, uninterrupted: Path, tmp_path: Path
) -> None:
    network = load_model(uninterrupted)
    (first, *_) = (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3))))
    images = LabelledImages.load(data.of("train"), len(CLASSES), config(), tmp_path)
    following = loader(TrainingCrops(images, config()), 4, 0, lambda: 24, pin_memory=False)
    with torch.inference_mode():
        for pixels, _ in islice(following, 16):
            network(pixels)
    torch.testing.assert_close(first.running_mean, torch.stack(seen).mean(dim=0), rtol=1e-3, atol=1e-4)


def test_the_card_names_every_setting_as_it_was_on_this_machine(uninterrupted: Path) -> None:
    recorded = json.loads((uninterrupted / "card.json").read_text())["config"]
    found, asked = TrainingConfig.model_validate(recorded), config()
    decided = [name for name, value in asked if value == "auto" and name != "mode"]
    assert {"device", "workers", "compile"} <= set(decided)
    assert all(getattr(found, name) != "auto" for name in decided)
    assert found.model_copy(update=dict.fromkeys(decided, "auto")) == asked


def test_minutes_may_be_minutes_of_the_processor(data: Manifest, tmp_path: Path) -> None:
    began = time.process_time()
    asked = load_config("test", ["minutes=0.02", "clock=processor", "threads=1", "max_steps=100000"])
    card = train(data, asked, tmp_path)
    assert 1.2 <= card.metrics["seconds"] <= time.process_time() - began
    assert 0 < card.metrics["steps"] < 100_000
