"""Engines answer alike; the fastest whose masks are float32 torch's is chosen, and obeyed where it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from model_zoo.card import ONNX_NAME, ModelCard
from model_zoo.errors import BrokenModel
from model_zoo.inference import Predictor, engines, processor
from model_zoo.inference.choice import Example, choose_engine
from model_zoo.inference.engine_record import EngineChoice, EngineMeasurement, Measurable
from model_zoo.inference.engines import load_engine, unavailable

SIDE = 64


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", get_args(Measurable))
def test_every_engine_of_this_machine_gives_the_masks_of_torch(tiny_model: Path, name: Measurable) -> None:
    if (reason := unavailable(tiny_model, name)) is not None:
        pytest.skip(reason)
    card = ModelCard.read(tiny_model)
    images = np.random.default_rng(1).normal(size=(2, card.spec.input_depth, 64, 96)).astype(np.float32)
    expected = load_engine(tiny_model, card, "torch", 1).logits(images)
    engine = load_engine(tiny_model, card, name, 1)
    found = engine.logits(images)
    assert (engine.name, found.dtype, found.shape) == (name, np.float32, expected.shape)
    tolerance = 0.1 if name.endswith("16") else 1e-4
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > (0.95 if name.endswith("16") else 0.999)


class FakeEngine:
    """The first class where an image is dark, the last where it is bright; some pixels differ."""

    batch = 1

    def __init__(self, name: str, took: float, clock: list[float], wrong: float = 0.0) -> None:
        self.name = name
        self._took = took
        self._clock = clock
        self._wrong = wrong

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self._clock[0] += self._took
        bright = images[:, 0] > 0
        wrong = np.arange(bright.size).reshape(bright.shape) < self._wrong * bright.size
        bright ^= wrong
        middle = np.full_like(images[:, 0], -1.0)
        return np.stack([np.where(bright, 0.0, 1.0), middle, np.where(bright, 1.0, 0.0)], 1).astype(
            np.float32
        )


Chosen = Callable[..., EngineChoice]


@pytest.fixture
def choose(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """Chooses among fake engines, given as seconds or (seconds, share of wrong pixels)."""
    monkeypatch.setattr("model_zoo.inference.choice.unavailable", lambda folder, name: None)

    def choose(examples: list[Example] | None = None, **said: Any) -> EngineChoice:
        now = [0.0]

        def load(folder: Path, card: ModelCard, name: Measurable, threads: int | None) -> FakeEngine:
            what = said.get(name.replace("-", "_"))
            if what is None:
                raise BrokenModel(f"{name} is not here")
            took, wrong = what if isinstance(what, tuple) else (what, 0.0)
            return FakeEngine(name, took, now, wrong)

        return choose_engine(
            folder, examples or [Example(noise(1, SIDE, SIDE))], clock=lambda: now[0], load=load
        )

    return choose


def test_the_fastest_is_chosen(choose: Chosen) -> None:
    chosen = choose(torch=0.3, onnx=0.2, openvino=0.1)
    assert chosen.engine == "openvino"
    by_name = {one.engine: one for one in chosen.measured}
    assert [by_name[n].milliseconds for n in ("torch", "onnx", "openvino")] == [300, 200, 100]
    assert "not here" in by_name["torch-fp16"].note


def test_wrong_masks_are_not_chosen_however_fast(choose: Chosen) -> None:
    chosen = choose(torch=0.3, onnx=0.2, openvino_bf16=(0.01, 0.01))
    assert chosen.engine == "onnx"
    (wrong,) = (one for one in chosen.measured if one.engine == "openvino-bf16")
    assert wrong.equal_pixels == pytest.approx(0.99, abs=0.001)
    assert not wrong.eligible


def test_a_class_that_suffers_is_enough_to_refuse(choose: Chosen) -> None:
    """Few pixels differ, but they are a good part of a rare class."""
    image = np.zeros((1, 128, 128), np.uint8)
    image[0, :2, :60] = 255
    truth = (image[0] > 0).astype(np.uint8) * 2
    chosen = choose([Example(image, truth)], torch=0.3, onnx=0.2, torch_bf16=(0.1, 0.0009))
    (bf16,) = (one for one in chosen.measured if one.engine == "torch-bf16")
    assert bf16.equal_pixels is not None
    assert bf16.equal_pixels >= 0.999
    assert bf16.iou_change is not None
    assert bf16.iou_change > 1
    assert chosen.engine == "onnx"


def test_a_lead_within_the_noise_is_none(choose: Chosen) -> None:
    assert choose(torch=0.3, onnx=0.2, openvino=0.19).engine == "onnx"


def test_without_another_torch_serves(choose: Chosen) -> None:
    assert choose(torch=0.3).engine == "torch"
    assert choose(torch=0.3, onnx=(0.1, 0.5)).engine == "torch"


def record(engine: Measurable, device: str = "cpu") -> EngineChoice:
    measured = (EngineMeasurement(engine=engine, milliseconds=1.0, equal_pixels=1.0, eligible=True),)
    return EngineChoice.model_validate(
        {"engine": engine, "device": device, "processor": "p", "threads": 2, "images": 1}
        | {"sizes": ((8, 8),), "measured": measured}
    )


def test_the_choice_survives_in_the_card_and_is_obeyed(folder: Path) -> None:
    record("torch").on(ModelCard.read(folder)).write(folder)
    assert EngineChoice.of(ModelCard.read(folder)) == record("torch")
    assert Predictor.load(folder, threads=1).engine.name == "torch"
    assert Predictor.load(folder, "onnx", threads=1).engine.name == "onnx"


def test_where_the_choice_cannot_run_the_base_engine_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = ModelCard.read(folder)
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else object())
    record("openvino").on(card).write(folder)
    assert Predictor.load(folder, threads=1).engine.name == "onnx"
    record("torch", device="cuda").on(card).write(folder)
    assert Predictor.load(folder, threads=1).engine.name == "onnx"
    (folder / ONNX_NAME).unlink()
    record("onnx").on(card).write(folder)
    assert Predictor.load(folder, threads=1).engine.name == "torch"


def test_a_record_that_nobody_understands_is_passed_over(folder: Path) -> None:
    card = ModelCard.read(folder)
    card.model_copy(update={"metrics": {"engines": {"engine": "abacus"}}}).write(folder)
    assert Predictor.load(folder, threads=1).engine.name == "onnx"


@pytest.mark.fast
def test_bfloat16_is_for_processors_that_have_it(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: A Processor\nflags\t\t: fpu avx512_bf16\n")
    assert processor._cpuinfo("model name", path) == "A Processor"
    assert "avx512_bf16" in processor._cpuinfo("flags", path).split()
    assert processor._cpuinfo("flags", tmp_path / "none") == ""
    assert processor.processor_threads() >= 1


def test_choosing_for_real(folder: Path) -> None:
    truth = np.zeros((SIDE, SIDE), np.uint8)
    chosen = choose_engine(folder, [Example(noise(1, SIDE, SIDE), truth)], threads=1)
    assert chosen.measured[0].engine == "torch"
    assert chosen.measured[0].equal_pixels == 1
    (onnx,) = (one for one in chosen.measured if one.engine == "onnx")
    assert onnx.eligible
    assert (chosen.threads, chosen.sizes) == (1, ((SIDE, SIDE),))
