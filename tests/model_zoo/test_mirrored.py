"""Mirror images are averaged: what an engine answers unevenly becomes even."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model_zoo.inference import Predictor
from model_zoo.inference.mirrored import Mirrored
from model_zoo.inference.tiles import softmax

pytestmark = pytest.mark.fast


class Uneven:
    """Answers class 1 in the upper left quarter, whatever it sees there."""

    name = "uneven"
    batch = 1

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count, _, height, width = images.shape
        answer = np.zeros((count, 2, height, width), np.float32)
        answer[:, 1, : height // 2, : width // 2] = 9
        return answer


def test_the_answer_is_the_mean_over_four_mirror_images() -> None:
    tiles = np.zeros((2, 1, 8, 4), np.float32)
    found = softmax(Mirrored(Uneven()).logits(tiles)[0])
    once = softmax(Uneven().logits(tiles)[0])[1]
    expected = np.mean([once, once[::-1], once[:, ::-1], once[::-1, ::-1]], axis=0)
    np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_a_mirrored_image_gets_the_mirrored_answer(tiny_model: Path) -> None:
    predictor = Predictor.load(tiny_model, threads=1, mirrored=True)
    image = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    there = predictor.predict(image).probabilities
    back = predictor.predict(np.ascontiguousarray(image[:, ::-1])).probabilities[..., ::-1]
    np.testing.assert_allclose(there, back, atol=1e-4)
    plain = Predictor.load(tiny_model, threads=1).predict(image).probabilities
    assert np.abs(there - plain).max() > 1e-3
