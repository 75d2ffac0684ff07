"""Images set aside choose which weights of a training are kept, where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from micrographs import write_manifest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model_zoo.store import load_model
from training.config import BadConfig, TrainingConfig, load_config
from training.data.manifest import Manifest
from training.fitting.validation import Jury
from training.progress import Progress
from training.supervised import train

pytestmark = pytest.mark.slow


def config(*overrides: str) -> TrainingConfig:
    settings = ["max_steps=6", "minutes=60", "threads=1", "validation=holdout", "validate_every=0.34"]
    return load_config("test", [*settings, *overrides])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_manifest(tmp_path_factory.mktemp("data"), ["train", "train", "holdout", "holdout"])


@pytest.fixture(scope="module")
def validated(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("validated")
    train(data, config("keep_checkpoints=true"), out)
    return out


class Killed(BaseException):
    """Stands for a kill: nobody may catch it."""


def log_of(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def test_what_was_seen_is_on_the_board(validated: Path) -> None:
    found = log_of(validated)
    assert {"crops", "validation"} <= set(found.Tags()["images"])
    assert {"validation/miou", "validation/iou/pore"} <= set(found.Tags()["scalars"])
    assert [event.step for event in found.Scalars("validation/miou")] == [3, 5, 6]


def test_the_best_weights_are_the_model(validated: Path) -> None:
    scores = {event.step: event.value for event in log_of(validated).Scalars("validation/miou")}
    best = torch.load(validated / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["miou"] == pytest.approx(max(scores.values()))
    assert scores[best["step"]] == pytest.approx(best["miou"])
    assert (validated / "checkpoints" / "last.ckpt").exists()
    for name, tensor in load_file(validated / "model.safetensors").items():
        torch.testing.assert_close(tensor, best["state_dict"][name], rtol=0, atol=0, msg=name)


def test_an_earlier_step_wins_where_it_was_better(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Jury.score, []

    def falling(self: Jury, network: Any) -> Any:
        calls.append(1)
        found = real(self, network)
        worse = tuple(  # nothing is right any more
            image.model_copy(update={"confusion": ((0, 9, 0), (9, 0, 0), (0, 9, 0))})
            for image in found.images
        )
        return found if len(calls) == 1 else found.model_copy(update={"images": worse})

    monkeypatch.setattr(Jury, "score", falling)
    assert train(data, config(), tmp_path).metrics["validation"]["step"] == 3
    assert not (tmp_path / "checkpoints").exists()


def test_looking_changes_nothing_in_what_is_learnt(data: Manifest, validated: Path, tmp_path: Path) -> None:
    """The last weights, had they not been looked at on the way."""
    train(data, config("validation=none", "keep_checkpoints=true"), tmp_path)
    blind, looked = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (tmp_path, validated)
    )
    for name, tensor in blind.items():
        torch.testing.assert_close(tensor, looked[name], rtol=0, atol=0, msg=name)


def test_a_killed_training_remembers_its_best(data: Manifest, validated: Path, tmp_path: Path) -> None:
    def killed(progress: Progress) -> None:
        if progress.stage == "train" and progress.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(data, config("checkpoint_seconds=0"), tmp_path, killed)
    card = train(data, config(), tmp_path)
    best = torch.load(validated / "checkpoints" / "best.ckpt", weights_only=True)
    assert card.metrics["validation"] == {"step": best["step"], "miou": best["miou"]}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        torch.testing.assert_close(tensor, best["state_dict"][name], rtol=0, atol=0, msg=name)


def test_without_labelled_holdout_there_is_no_validation(tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "data", ["train", "train"])
    with pytest.raises(BadConfig, match=r"no image of the manifest's part `holdout` is labelled"):
        train(data, config(), tmp_path / "out")


def test_the_images_that_judge_may_be_changed_too(data: Manifest, tmp_path: Path) -> None:
    jury = Jury.of(data, train(data, config("max_steps=1", "validation=none"), tmp_path / "run"), 2)
    assert jury.changed(config(), tmp_path) is jury
    still = ["validation_augmentation.enabled=true", "validation_augmentation.probability=0"]
    network = load_model(tmp_path / "run")
    same = jury.changed(config(*still, "validation_augmentation.orientation=false"), tmp_path / "same")
    assert same.score(network).miou == pytest.approx(jury.score(network).miou, abs=1e-3)
    turned = jury.changed(config("validation_augmentation.enabled=true"), tmp_path / "turned")
    assert turned.score(network).images != jury.score(network).images
    assert len(turned.score(network).images) == 2
