"""The batch to label next: chosen once, filled up when it runs low, and explained."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import CONFIG, FolderImages, load_threshold, publish

from srpu_backend import pool
from srpu_backend.annotator import Annotator, Champion
from srpu_backend.batch import COLD_START, Place, read_batch, score_of, waiting, write_batch
from srpu_backend.mirror import MirroredTask
from srpu_backend.pool import predict_pool
from srpu_backend.projects import Project, Projects
from srpu_backend.ranking import asked, next_tasks, rank_pool, ranking_due
from srpu_backend.settings import Settings
from srpu_backend.status import status
from srpu_backend.training_settings import training_overrides

pytestmark = pytest.mark.fast

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SIDE = 64
_LABELLED: dict[str, Any] = {"task": 2, "place": 2, "arm": "strategy", "why": "."}


class Lab:
    """Tasks 1 to 12 of specimens of their own; 13 to 16 of one film, 17 shows what 1 shows."""

    def __init__(self, root: Path) -> None:
        self.projects = Projects(root)
        self.projects.remember(1, label_config=CONFIG)
        self.settings = Settings(model_dir=root, label_batch=6)
        self.images = FolderImages(root)
        self.fetched: list[str] = []
        for task in range(1, 13):
            self.add(task, f"specimen-{chr(96 + task)}.png", task)
        for frame in range(4):
            self.add(13 + frame, f"film-{frame:03d}.png", 13 + frame)
        self.add(17, "copy-of-a.png", 1)

    @property
    def project(self) -> Project:
        return self.projects.get(1)

    def add(self, task: int, name: str, seed: int | None) -> None:
        if seed is not None:
            self.images.images[name] = _micrograph(seed)
        self.project.mirror.upsert([MirroredTask(task, _marker(0), {"image": name}, None)])

    def label(self, *tasks: int) -> None:
        for task in self.project.mirror.some(tasks):
            done = MirroredTask(task.id, _marker(1), task.data, {"result": []}, f"label {task.id}")
            self.project.mirror.upsert([done])

    def skip(self, task: int) -> None:
        found = next(self.project.mirror.some([task]))
        self.project.mirror.upsert([MirroredTask(task, _marker(0, skipped=1), found.data, None)])

    def rank(self) -> list[int]:
        rank_pool(self.project, self, self.settings, lambda: NOW, lambda: None)
        return self.order()

    def fetch(self, reference: str, connection: Any, task_id: int | None = None) -> Path:
        self.fetched.append(reference)
        return self.images.fetch(reference, connection, task_id)

    def order(self) -> list[int]:
        return [place.task for place in self.places()]

    def places(self) -> tuple[Place, ...]:
        return waiting(read_batch(self.project), self.project.mirror)

    def promote(self, number: int = 1) -> str:
        version = publish(self.project, number)
        predict_pool(self.project, self.images, lambda: NOW, lambda: None, lambda *_: None)  # type: ignore[arg-type]
        return version


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    def by_threshold(project: Project, images: Any) -> Annotator:
        return Annotator(project, images, Champion(project.registry, load_threshold))

    monkeypatch.setattr(pool, "Annotator", by_threshold)
    return Lab(tmp_path)


def test_before_any_model_there_is_a_batch_of_different_images_with_reasons(lab: Lab) -> None:
    order = lab.rank()
    assert len(order) == len(set(order)) == 6
    assert len(set(order) & {13, 14, 15, 16}) <= 1
    assert not {1, 17} <= set(order), "what shows the same is not in one batch"
    assert {place.arm for place in lab.places()} == {"strategy", "control"}
    assert all(place.why.endswith(".") for place in lab.places())
    batch = read_batch(lab.project)
    assert batch is not None and batch.version == COLD_START


def test_scores_ascend_with_the_place() -> None:
    scores = [score_of(place) for place in range(50)]
    assert scores == sorted(set(scores)) and scores[0] == 0.0 and scores[-1] < 0.001


def test_an_image_is_looked_at_once(lab: Lab) -> None:
    lab.rank()
    assert len(lab.fetched) == 17
    lab.fetched.clear()
    lab.rank()
    lab.promote()
    lab.rank()
    assert lab.fetched == []
    lab.add(18, "specimen-z.png", 18)
    lab.rank()
    assert lab.fetched == ["specimen-z.png"]


def test_a_batch_stays_until_half_of_it_is_labelled_and_is_then_filled_up_behind(lab: Lab) -> None:
    first = lab.rank()
    lab.label(*first[:2])
    assert not ranking_due(lab.project, lab.settings)
    assert lab.rank() == first[2:]
    lab.label(first[2])
    assert ranking_due(lab.project, lab.settings)
    second = lab.rank()
    assert second[:3] == first[3:] and len(second) == 6
    assert not set(second[3:]) & set(first)
    places = [place.place for place in lab.places()]
    assert places == sorted(places)
    assert len(set(second) & {13, 14, 15, 16}) <= 1
    assert not {1, 17} <= set(second)
    assert not ranking_due(lab.project, lab.settings)


def test_what_fills_up_a_batch_is_no_frame_nor_copy_of_what_is_left_in_it(lab: Lab) -> None:
    lab.rank()
    batch = read_batch(lab.project)
    assert batch is not None
    left = [Place(task=13, place=0, arm="strategy", why="."), Place(task=1, place=1, arm="strategy", why=".")]
    lab.label(2)
    write_batch(lab.project, batch.model_copy(update={"places": (*left, Place(**_LABELLED)), "pool": ""}))
    order = lab.rank()
    assert order[:2] == [13, 1] and len(order) == 6
    assert not set(order[2:]) & {14, 15, 16, 17}


def test_nothing_is_chosen_again_while_nothing_changes(lab: Lab) -> None:
    lab.settings = Settings(model_dir=lab.settings.model_dir, label_batch=100)
    first = lab.rank()
    assert not ranking_due(lab.project, lab.settings)
    lab.add(18, "specimen-z.png", 18)
    assert ranking_due(lab.project, lab.settings)
    assert set(lab.rank()) == {*first, 18}


def test_with_a_champion_what_it_was_unsure_of_is_known_without_asking_it_again(lab: Lab) -> None:
    lab.rank()
    lab.label(*range(1, 4))
    version = lab.promote()
    lab.settings = Settings(model_dir=lab.settings.model_dir, label_batch=6, strategy="entropy")
    lab.rank()
    batch = read_batch(lab.project)
    assert batch is not None and (batch.version, batch.strategy) == (version, "entropy")
    assert all("unsure" in place.why for place in batch.places)


def test_few_sequences_share_the_places_evenly(lab: Lab) -> None:
    lab.label(*range(1, 13), 17)
    assert set(lab.rank()) == {13, 14, 15, 16}


def test_a_skipped_task_leaves_the_batch(lab: Lab) -> None:
    first = lab.rank()
    lab.skip(first[0])
    assert lab.order() == first[1:]
    lab.label(*first[1:4])
    assert first[0] not in lab.rank()


def test_an_image_that_cannot_be_had_is_named_and_the_others_are_ranked(lab: Lab) -> None:
    lab.add(18, "lost.png", None)
    assert len(lab.rank()) == 6
    assert any("lost.png" in problem.message for problem in lab.project.problems())
    lab.fetched.clear()
    lab.rank()
    assert lab.fetched == [], "it is put off"


def test_an_empty_project_and_one_without_open_tasks_have_no_batch(tmp_path: Path, lab: Lab) -> None:
    empty = Projects(tmp_path / "other").remember(2, label_config=CONFIG)
    assert not ranking_due(empty, lab.settings)
    rank_pool(empty, lab, lab.settings, lambda: NOW, lambda: None)
    assert next_tasks(empty, lab.settings)["next"] == []
    lab.label(*range(1, 18))
    assert lab.rank() == []
    assert "labelled" in next_tasks(lab.project, lab.settings)["next_notes"][0]


def test_the_strategy_is_the_parameters_then_the_label_configs_then_the_settings(lab: Lab) -> None:
    assert asked(lab.project, lab.settings).strategy.name == "hybrid"
    lab.projects.remember(
        1,
        label_config=CONFIG.replace("<Brush", "<Brush", 1).replace(
            'name="brush"', 'name="brush" model_strategy="coreset" model_label_batch="4"'
        ),
    )
    wanted = asked(lab.project, lab.settings)
    assert (wanted.strategy.name, wanted.size) == ("coreset", 4)
    lab.projects.remember(1, parameters={"strategy": "typiclust"})
    assert asked(lab.project, lab.settings).strategy.name == "typiclust"
    assert "strategy" not in training_overrides(lab.project, lab.settings)


def test_a_misspelt_strategy_is_said_once_with_the_right_name_and_hybrid_ranks(lab: Lab) -> None:
    lab.projects.remember(1, parameters={"strategy": "typiclst", "label_batch": "many"})
    assert len(lab.rank()) == 12 + 2  # of the 20 asked for: none shown twice, few frames of the film
    told = next_tasks(lab.project, lab.settings)
    assert told["strategy"] == "hybrid"
    assert "did you mean typiclust?" in told["strategy_problem"]
    assert "'many'" in told["strategy_problem"]


def test_a_strategy_that_would_ask_the_model_again_is_for_folders_and_that_is_said(lab: Lab) -> None:
    lab.projects.remember(1, parameters={"strategy": "bald"})
    wanted = asked(lab.project, lab.settings)
    assert wanted.strategy.name == "hybrid" and "mirrored" in wanted.problem


def test_the_status_tells_what_comes_next_and_why(lab: Lab) -> None:
    order = lab.rank()
    lab.label(order[0])
    told = next_tasks(lab.project, lab.settings)["next"]
    assert [entry["task"] for entry in told] == order[1:]
    assert [entry["rank"] for entry in told] == [1, 2, 3, 4, 5]
    assert json.dumps(told)
    (shown,) = status(lab.settings, lambda id: [])["projects"]
    assert shown["next"] == told and shown["strategy"] == "hybrid"
    assert "not enough versions" in shown["more_labels"]


def _marker(annotations: int, skipped: int = 0) -> str:
    return json.dumps(["2026-11-24T10:00:00.000000Z", annotations, skipped, bool(annotations)])


def _micrograph(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    random = np.random.default_rng(seed)
    coarse = random.normal(120, 20 + 3 * seed, (SIDE // 8, SIDE // 8))
    image = np.kron(coarse, np.ones((8, 8))) + random.normal(0, 5 + seed, (SIDE, SIDE))
    return np.clip(image, 0, 255).astype(np.uint8)
