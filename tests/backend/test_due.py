"""A training is due when there is enough to learn, and a failed one is not tried again every minute."""

from __future__ import annotations

from pathlib import Path

import pytest

from srpu_backend.due import Attempt, config_fingerprint, remember_attempt, training_due
from srpu_backend.mirror import MirroredTask
from srpu_backend.projects import Project, Projects
from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast

SETTINGS = Settings(first_training_after=2, retrain_growth=0.1)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path).remember(1, label_config="<View/>")


def label(project: Project, *ids: int, as_: str = "x") -> None:
    project.mirror.upsert(MirroredTask(id, "m", {}, {"result": []}, f"{as_}{id}") for id in ids)


def attempted(project: Project, failed: bool = False) -> None:
    remember_attempt(
        project,
        Attempt(
            run="r",
            version="v0001-aaaaaa",
            labels=project.mirror.labels(),
            config=config_fingerprint(project),
            failed=failed,
        ),
    )


def test_the_first_training_waits_for_enough_labels(project: Project) -> None:
    label(project, 1)
    assert training_due(project, SETTINGS) is None
    label(project, 2)
    assert training_due(project, SETTINGS)


def test_the_same_labels_are_not_learnt_twice(project: Project) -> None:
    label(project, 1, 2)
    attempted(project)
    assert training_due(project, SETTINGS) is None


def test_the_next_training_waits_for_its_share_of_new_labels(project: Project) -> None:
    label(project, *range(1, 31))
    attempted(project)
    label(project, 31, 32)
    assert training_due(project, SETTINGS) is None
    label(project, 1, as_="redrawn")
    assert training_due(project, SETTINGS)


def test_labels_that_went_away_count(project: Project) -> None:
    label(project, *range(1, 11))
    attempted(project)
    project.mirror.remove([3])
    assert training_due(project, SETTINGS)


def test_another_label_config_is_reason_enough(project: Project, tmp_path: Path) -> None:
    label(project, 1, 2)
    attempted(project)
    changed = Projects(tmp_path).remember(1, label_config="<View><Image/></View>")
    assert training_due(changed, SETTINGS)


def test_after_a_failure_any_new_label_is_reason_enough_but_not_the_same_ones(project: Project) -> None:
    label(project, *range(1, 31))
    attempted(project, failed=True)
    assert training_due(project, SETTINGS) is None
    label(project, 31)
    assert training_due(project, SETTINGS)


def test_a_broken_note_of_the_last_attempt_is_as_none(project: Project) -> None:
    label(project, 1, 2)
    attempted(project)
    (project.root / "attempt.json").write_text("{")
    assert training_due(project, SETTINGS)
