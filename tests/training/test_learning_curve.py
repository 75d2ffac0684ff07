"""What more labels would bring, told only where there is something to tell it from."""

from __future__ import annotations

import numpy as np
import pytest

from training.learning_curve import Curve, Measured, expected_gain, fit

pytestmark = pytest.mark.fast

LABELS = np.array([5, 10, 20, 40, 80], float)


def _points(curve: Curve, noise: float = 0.0, seed: int = 0) -> list[Measured]:
    random = np.random.default_rng(seed)
    return [
        Measured(int(n), float(score + random.normal(0, noise)))
        for n, score in zip(LABELS, curve.at(LABELS), strict=True)
    ]


@pytest.mark.parametrize("curve", [Curve(0.9, 1.0, 0.5), Curve(0.8, 2.0, 1.0), Curve(1.0, 0.7, 0.2)])
def test_the_curve_that_made_the_points_is_found(curve: Curve) -> None:
    ahead = np.array([90.0, 200.0])
    assert fit(LABELS, curve.at(LABELS)).at(ahead) == pytest.approx(curve.at(ahead), abs=0.01)


def test_the_expected_gain_is_that_of_the_curve_and_its_interval_holds_it() -> None:
    curve = Curve(0.9, 1.0, 0.5)
    truth = float(np.diff(curve.at(np.array([80.0, 90.0])))[0])
    gain = expected_gain(_points(curve, noise=0.01))
    assert gain is not None
    assert (gain.labels, gain.at) == (10, 80)
    assert gain.expected == pytest.approx(truth, abs=0.01)
    assert gain.low <= truth <= gain.high


def test_where_nothing_rises_nothing_is_promised() -> None:
    gain = expected_gain([Measured(int(n), 0.7) for n in LABELS])
    assert gain is not None
    assert gain.expected == 0.0
    assert 0.0 <= gain.low <= gain.high < 0.02


def test_a_score_that_falls_promises_nothing_either() -> None:
    gain = expected_gain([Measured(5, 0.8), Measured(10, 0.7), Measured(20, 0.6)])
    assert gain is not None and gain.expected == 0.0


def test_more_noise_gives_a_wider_interval() -> None:
    curve = Curve(0.9, 1.0, 0.5)
    calm, noisy = expected_gain(_points(curve)), expected_gain(_points(curve, 0.05, seed=1))
    assert calm is not None and noisy is not None
    assert noisy.high - noisy.low > calm.high - calm.low


def test_the_curve_never_passes_a_score_of_one() -> None:
    curve = fit(np.array([2.0, 4.0, 8.0]), np.array([0.5, 0.8, 0.99]))
    assert curve.at(np.array([1e6]))[0] <= 1.0


@pytest.mark.parametrize("labels", [[], [5], [5, 10], [5, 10, 10], [0, 5, 10]])
def test_fewer_than_three_numbers_of_labels_tell_nothing(labels: list[int]) -> None:
    assert expected_gain([Measured(n, 0.5) for n in labels]) is None


def test_the_same_points_tell_the_same() -> None:
    points = _points(Curve(0.9, 1.0, 0.5), 0.03)
    assert expected_gain(points) == expected_gain(points[::-1])
