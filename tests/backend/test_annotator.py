"""From a task's image to regions and a score; champions exchanged while they serve."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import CONFIG, FolderImages, ThresholdSegmenter, load_threshold, publish

from model_zoo.card import STATE_NAME, ClassInfo
from model_zoo.errors import BrokenModel
from model_zoo.inference import Segmentation
from srpu_backend.annotator import Annotator, BadTask, Champion, Champions, NoModel, class_scores
from srpu_backend.images import ImageUnavailable
from srpu_backend.label_config import LabelConfig
from srpu_backend.projects import Project, Projects
from tests.polling import eventually

pytestmark = pytest.mark.fast

IMAGE = np.zeros((24, 32), np.uint8)
IMAGE[4:12, 8:20] = 200
DEADLINE = 30.0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path).remember(1, label_config=CONFIG, url="http://ls", token="t")


@pytest.fixture
def images(tmp_path: Path) -> FolderImages:
    return FolderImages(
        tmp_path, {"a.png": IMAGE, "a.tif": IMAGE.astype(np.uint16) * 257, "b.tif": IMAGE[1:]}
    )


def at_once(work: Callable[[], None]) -> None:
    work()


def annotator_of(project: Project, images: FolderImages) -> Annotator:
    return Annotator(project, images, Champion(project.registry, load_threshold))


def test_a_task_becomes_regions_with_class_scores(project: Project, images: FolderImages) -> None:
    version = publish(project)
    annotation = annotator_of(project, images).annotate({"id": 1, "data": {"image": "a.png"}})
    assert annotation.model_version == version
    (region,) = annotation.result
    assert region["value"]["brushlabels"] == ["grain"]
    assert region["score"] == pytest.approx(0.9)
    assert annotation.as_prediction()["score"] == annotation.score


def test_an_unsure_image_scores_lower_than_a_sure_one(project: Project, images: FolderImages) -> None:
    publish(project)
    champion = Champion(project.registry, load_threshold)
    annotator = Annotator(project, images, champion)
    sure = annotator.annotate({"id": 1, "data": {"image": "a.png"}}).score
    segmenter = champion.current().segmenter

    def unsure(stack: Any) -> Segmentation:
        return Segmentation(
            np.zeros(stack.shape[1:], np.uint8), np.full((3, *stack.shape[1:]), 1 / 3, np.float32)
        )

    segmenter.predict = unsure  # type: ignore[method-assign]
    assert annotator.annotate({"id": 1, "data": {"image": "a.png"}}).score < 0.01 < sure < 1


def test_the_original_is_read_where_the_task_names_one(project: Project, images: FolderImages) -> None:
    publish(project)
    champion = Champion(project.registry, load_threshold)
    task = {"id": 1, "data": {"image": "a.png", "original": "a.tif"}}
    Annotator(project, images, champion).annotate(task)
    segmenter = champion.current().segmenter
    assert isinstance(segmenter, ThresholdSegmenter)
    assert segmenter.stacks[0].dtype == np.uint16


def test_an_original_of_another_size_than_what_is_shown_is_refused(
    project: Project, images: FolderImages
) -> None:
    publish(project)
    with pytest.raises(
        BadTask, match=r"Task 5: the original is 32×23 px but the image that is shown is 32×24"
    ):
        annotator_of(project, images).annotate({"id": 5, "data": {"image": "a.png", "original": "b.tif"}})


@pytest.mark.parametrize("data", [None, {}, [], {"image": None}, {"image": 3}, {"image": " "}, {"img": "a"}])
def test_a_task_without_image_says_which_field_is_missing(
    project: Project, images: FolderImages, data: Any
) -> None:
    publish(project)
    with pytest.raises(BadTask, match=r"Task 5 has no data\.image"):
        annotator_of(project, images).annotate({"id": 5, "data": data})


def test_a_missing_image_is_told(project: Project, images: FolderImages) -> None:
    publish(project)
    with pytest.raises(ImageUnavailable):
        annotator_of(project, images).annotate({"id": 5, "data": {"image": "x.png"}})


def test_without_a_model_it_says_what_to_do(project: Project, images: FolderImages) -> None:
    annotator = annotator_of(project, images)
    assert annotator.version() is None
    with pytest.raises(NoModel, match="label a few images"):
        annotator.annotate({"id": 1, "data": {"image": "a.png"}})


def test_a_model_of_neighbouring_frames_gets_as_many(project: Project, images: FolderImages) -> None:
    publish(project, input_depth=3)
    champion = Champion(project.registry, load_threshold)
    Annotator(project, images, champion).annotate({"id": 1, "data": {"image": "a.png"}})
    segmenter = champion.current().segmenter
    assert isinstance(segmenter, ThresholdSegmenter)
    assert segmenter.stacks[0].shape == (3, 24, 32)


def test_a_class_that_the_config_lost_is_not_written(
    project: Project, images: FolderImages, tmp_path: Path
) -> None:
    publish(project, names=("background", "grain", "crack"))
    assert annotator_of(project, images).annotate({"id": 1, "data": {"image": "a.png"}}).result == []


def test_scores_are_means_over_the_pixels_a_class_won() -> None:
    config = LabelConfig.parse(CONFIG)
    classes = [
        ClassInfo(name="background", implicit=True), ClassInfo(name="grain"), ClassInfo(name="crack")
    ]  # fmt: skip
    rows = ([0.8, 0.1, 0.1, 0.2], [0.1, 0.7, 0.2, 0.6], [0.1, 0.2, 0.7, 0.2])
    probabilities = np.array(rows, np.float32)[:, np.newaxis]
    segmentation = Segmentation(np.array([[0, 1, 2, 1]], np.uint8), probabilities)
    scores = class_scores(segmentation, classes, config)
    assert scores.keys() == {"background", "grain"}
    assert scores["grain"] == pytest.approx(0.65)


class TestChampion:
    def test_is_loaded_once(self, project: Project) -> None:
        publish(project)
        loads: list[Path] = []
        champion = Champion(project.registry, lambda folder: loads.append(folder) or load_threshold(folder))
        assert champion.current() is champion.current()
        assert len(loads) == 1

    def test_follows_the_pointer(self, project: Project) -> None:
        champion = Champion(project.registry, load_threshold, at_once)
        for number in (1, 2):
            version = publish(project, number)
            assert champion.current().version == version
        project.registry.rollback()
        assert champion.current().version == "v0001-abc001"

    def test_nobody_waits_for_a_new_one(self, project: Project) -> None:
        """While it loads, in a thread of its own, the old one answers; then all ask the new one."""
        first = publish(project, 1)
        loading, go_on = threading.Event(), threading.Event()

        def load(folder: Path) -> ThresholdSegmenter:
            if folder.name != first:
                loading.set()
                assert go_on.wait(DEADLINE)
            return load_threshold(folder)

        champion = Champion(project.registry, load)
        old = champion.current()
        second = publish(project, 2)
        assert champion.current() is old  # this very call began the loading, and did not wait
        assert loading.wait(DEADLINE)
        assert champion.current() is old
        go_on.set()
        eventually(lambda: champion.current().version == second)

    def test_what_is_prepared_is_not_loaded_again(self, project: Project) -> None:
        publish(project)
        loads: list[Path] = []
        champion = Champion(project.registry, lambda folder: loads.append(folder) or load_threshold(folder))
        for _ in range(3):
            champion.prepare()
        champion.current()
        champion.prepare()
        assert len(loads) == 1

    def test_without_any_model_there_is_nothing_to_prepare(self, project: Project) -> None:
        Champion(project.registry, load_threshold, at_once).prepare()

    def test_the_first_load_is_shared_by_all_threads(self, project: Project) -> None:
        publish(project)
        loads: list[Path] = []
        everybody_asks = threading.Barrier(4)

        class Lock:
            """A lock that is taken only after all threads have asked for it."""

            def __init__(self) -> None:
                self._lock = threading.Lock()

            def __enter__(self) -> None:
                everybody_asks.wait(DEADLINE)
                self._lock.acquire()

            def __exit__(self, *_: object) -> None:
                self._lock.release()

        def load(folder: Path) -> ThresholdSegmenter:
            loads.append(folder)
            return load_threshold(folder)

        champion = Champion(project.registry, load)
        champion._loading = Lock()  # type: ignore[assignment]
        threads = [threading.Thread(target=champion.current) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert len(loads) == 1

    def test_a_damaged_successor_leaves_the_old_one_serving(self, project: Project) -> None:
        first = publish(project, 1)
        tries: list[Path] = []

        def load(folder: Path) -> ThresholdSegmenter:
            if folder.name != first:
                tries.append(folder)
                raise BrokenModel("damaged")
            return load_threshold(folder)

        champion = Champion(project.registry, load, at_once)
        champion.current()
        publish(project, 2)
        assert [champion.current().version for _ in range(3)] == [first] * 3
        assert len(tries) == 1

    def test_a_damaged_first_one_is_an_error(self, project: Project) -> None:
        version = publish(project)
        (project.registry.folder(version) / "card.json").write_text("{")
        with pytest.raises(BrokenModel):
            Champion(project.registry, load_threshold).current()
        assert (project.registry.folder(version) / STATE_NAME).exists()


def test_the_champion_used_longest_ago_makes_room(tmp_path: Path) -> None:
    projects = [Projects(tmp_path).remember(id) for id in (1, 2, 3)]
    champions = Champions(2, load_threshold)
    first, second = champions.of(projects[0]), champions.of(projects[1])
    assert champions.of(projects[0]) is first
    champions.of(projects[2])
    assert champions.of(projects[0]) is first
    assert champions.of(projects[1]) is not second
