"""Budgets, learning rates, and the files that others watch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fitting.budget import Budget, learning_rate_factor
from training.progress import Progress, ProgressFile, clear_error, write_error

pytestmark = pytest.mark.fast


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_budget_that_is_used_up_first_ends_the_training() -> None:
    clock = Clock()
    budget = Budget(minutes=2, max_steps=100, clock=clock)
    budget.start()
    assert budget.fraction(step=50) == 0.5
    clock.now += 90
    assert budget.fraction(step=50) == 0.75
    assert budget.fraction(step=100) == 1.0
    clock.now += 90
    assert budget.fraction(step=50) == 1.0


def test_time_before_an_interruption_counts_and_time_between_does_not() -> None:
    clock = Clock()
    budget = Budget(minutes=1, max_steps=None, clock=clock)
    budget.earlier = 30.0
    clock.now += 1000
    assert budget.fraction(step=5) == 0.5
    budget.start()
    clock.now += 15
    assert budget.fraction(step=5) == 0.75
    budget.stop()
    clock.now += 1000
    assert budget.elapsed == 45.0


def test_the_time_that_remains_follows_the_pace() -> None:
    clock = Clock()
    budget = Budget(minutes=60, max_steps=100, clock=clock)
    budget.start()
    assert budget.remaining(0) is None
    clock.now += 20
    assert budget.remaining(25) == pytest.approx(60)


@given(st.floats(0, 1), st.floats(0, 0.9))
def test_the_learning_rate_stays_within_its_bounds(fraction: float, warmup: float) -> None:
    assert 0 <= learning_rate_factor(fraction, warmup) <= 1


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    factors = [learning_rate_factor(percent / 100, warmup=0.1) for percent in range(101)]
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[0] > 0
    assert factors[10] == 1
    assert factors[-1] == 0


def test_progress_is_written_about_once_a_second_and_at_each_stage(tmp_path: Path) -> None:
    clock = Clock()
    file = ProgressFile(tmp_path, clock=clock)

    def shown() -> tuple[str, int]:
        content = json.loads((tmp_path / "progress.json").read_bytes())
        return content["stage"], content["step"]

    file(Progress(stage="train", step=1))
    file(Progress(stage="train", step=2))
    assert shown() == ("train", 1)
    clock.now += 1.1
    file(Progress(stage="train", step=3))
    assert shown() == ("train", 3)
    file(Progress(stage="export", step=3))
    assert shown() == ("export", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_an_error_is_left_for_others_and_forgotten_by_the_next_run(tmp_path: Path) -> None:
    write_error(tmp_path / "run", "Grain µ is too small.")
    assert json.loads((tmp_path / "run" / "error.json").read_bytes()) == {"message": "Grain µ is too small."}
    clear_error(tmp_path / "run")
    clear_error(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
