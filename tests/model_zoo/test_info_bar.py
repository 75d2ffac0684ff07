"""The bar below a picture is found where there is one, to the row, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, Normalisation, background
from model_zoo.inference import Predictor
from model_zoo.info_bar import info_bar_height
from model_zoo.normalisation import normalise
from training.simulator import simulate
from training.simulator.config import SCENES, SimulatorConfig

pytestmark = pytest.mark.fast
random = np.random.default_rng(0)


def scene(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth structure with noise, 60 … 200."""
    coarse = random.integers(60, 200, (height // 16 + 2, width // 16 + 2)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noisy = smooth + random.normal(0, 6, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def with_bar(height: int, width: int, bar: int, ground: int, ink: int, line: bool) -> NDArray[np.uint8]:
    image = scene(height, width)
    strip = np.full((bar, width), ground, np.uint8)
    text = "HV 15.0 kV  mag 5000x  WD 10.2 mm  det ETD"
    cv2.putText(strip, text, (4, round(bar * 0.7)), cv2.FONT_HERSHEY_SIMPLEX, bar / 50, ink, 1, cv2.LINE_AA)
    if line:
        strip[0] = ink
    image[-bar:] = strip
    return image


@pytest.mark.parametrize("ground", [0, 40, 255])
@pytest.mark.parametrize("line", [False, True])
@pytest.mark.parametrize(("height", "width", "bar"), [(512, 512, 32), (884, 1024, 60), (300, 700, 24)])
@pytest.mark.parametrize("quality", [None, 80])
def test_a_bar_is_found_to_the_row(
    ground: int, line: bool, height: int, width: int, bar: int, quality: int | None
) -> None:
    image = with_bar(height, width, bar, ground, 255 - ground if ground != 40 else 255, line)
    if quality is not None:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)
    assert abs(info_bar_height(image) - bar) <= (0 if quality is None else 1)


@pytest.mark.parametrize("name", sorted(SCENES))
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("bar", [True, False])
def test_the_simulators_bars_are_found(name: str, bits: int, bar: bool) -> None:
    config = SimulatorConfig.scene(name)
    imaging = config.imaging.model_copy(update={"bits": bits, "info_bar": bar})
    image = simulate(config.model_copy(update={"imaging": imaging}), seed=5).image
    assert info_bar_height(image) == (max(16, round(image.shape[0] * 0.06)) if bar else 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_micrograph_without_a_bar_keeps_all_its_rows(seed: int) -> None:
    assert info_bar_height(scene(256 + 31 * seed, 300)) == 0


def test_a_clipped_background_is_no_bar() -> None:
    image = scene(400, 400)
    image[image < 120] = 0
    assert info_bar_height(image) == 0


def test_an_even_image_and_tiny_ones_have_no_bar() -> None:
    for image in (np.zeros((64, 64), np.uint8), np.zeros((3, 3), np.uint8), np.zeros((1, 1), np.uint16)):
        assert info_bar_height(image) == 0


def test_the_bar_does_not_decide_what_the_picture_is_stretched_to() -> None:
    image = with_bar(400, 400, 32, 0, 255, True)
    image[:-32] = 100 + image[:-32] // 16  # little contrast
    left_out = normalise(image[None], Normalisation(mean=0, std=1))[0, :-32]
    kept = normalise(image[None], Normalisation(mean=0, std=1, info_bar="keep"))[0, :-32]
    assert left_out.std() > 5 * kept.std()
    alone = normalise(image[None, :-32], Normalisation(mean=0, std=1))[0]
    np.testing.assert_array_equal(left_out, alone)


def test_a_bar_is_answered_as_background(tiny_model: Path) -> None:
    predictor = Predictor.load(tiny_model, threads=1)
    found = predictor.predict(with_bar(300, 200, 32, 0, 255, True))
    index = background(predictor.card.classes)
    assert (found.class_map[-32:] == index).all()
    assert (found.probabilities[index, -32:] == 1).all()
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)


def test_background_is_the_implicit_class_or_one_so_called() -> None:
    names = [ClassInfo(name=name) for name in ("pore", "crack")]
    assert background(names) == 0
    assert background([*names, ClassInfo(name="Background")]) == 2
    assert background([*names, ClassInfo(name="rest", implicit=True)]) == 2
