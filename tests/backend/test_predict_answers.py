"""A request's answers: kept ones in no time, the others computed once, all by one version."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_ins import CONFIG, FolderImages, ThresholdSegmenter, load_threshold, publish

from model_zoo.errors import BrokenModel
from model_zoo.inference import Segmentation
from srpu_backend.annotator import Champion
from srpu_backend.answers import Answered, Answers
from srpu_backend.computed_once import ComputedOnce
from srpu_backend.due import config_fingerprint
from srpu_backend.prediction_files import Prediction, PredictionFiles
from srpu_backend.projects import Project, Projects
from tests.polling import eventually

pytestmark = pytest.mark.fast

DEADLINE = 30.0
IMAGE = np.zeros((24, 32), np.uint8)
IMAGE[4:12, 8:20] = 200


class SlowEngine(ThresholdSegmenter):
    """Answers when it is told to, and counts."""

    go_on = threading.Event()
    began = threading.Event()
    looked = 0

    def predict(self, stack: Any) -> Segmentation:
        type(self).looked += 1
        self.began.set()
        assert self.go_on.wait(DEADLINE)
        return super().predict(stack)


@pytest.fixture(autouse=True)
def engine() -> None:
    SlowEngine.go_on.set()
    SlowEngine.began.clear()
    SlowEngine.looked = 0


def load_slow(folder: Path) -> SlowEngine:
    return SlowEngine(load_threshold(folder).card)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path).remember(1, label_config=CONFIG, url="http://ls", token="t")


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    images = FolderImages(tmp_path, {f"{n}.png": IMAGE for n in range(10)})
    return Answers(images, DEADLINE, lambda: 0.0)


def task(id: int, image: int = 0) -> dict[str, Any]:
    return {"id": id, "data": {"image": f"{image}.png"}}


def ask(answers: Answers, project: Project, champion: Champion, *tasks: dict[str, Any]) -> Answered:
    return answers.answer(project, champion, champion.version() or "", tasks)


def keep(project: Project, version: str, id: int, image: int = 0) -> None:
    files = PredictionFiles(project.root, version, config_fingerprint(project))
    files.put(Prediction(id, [{"id": "kept"}], 0.5, version), task(id, image)["data"])


def test_what_the_trainer_foresaw_is_answered_without_the_engine(answers: Answers, project: Project) -> None:
    version = publish(project)
    keep(project, version, 1)

    def load(folder: Path) -> ThresholdSegmenter:
        raise BrokenModel("must not be needed")

    answered = ask(answers, project, Champion(project.registry, load, lambda work: None), task(1))
    assert answered.elements == [{"result": [{"id": "kept"}], "score": 0.5, "model_version": version}]


def test_asked_again_nothing_is_computed_again(answers: Answers, project: Project) -> None:
    publish(project)
    champion = Champion(project.registry, load_slow)
    first = ask(answers, project, champion, task(1))
    again = ask(answers, project, champion, task(1))
    assert first == again
    assert SlowEngine.looked == 1


def test_another_image_or_label_config_is_computed_anew(answers: Answers, project: Project) -> None:
    publish(project)
    champion = Champion(project.registry, load_slow)
    ask(answers, project, champion, task(1))
    ask(answers, project, champion, task(1, image=1))
    project.label_config_xml = CONFIG.replace("pore", "void")
    ask(answers, project, champion, task(1, image=1))
    assert SlowEngine.looked == 3


def test_many_who_want_the_same_image_wait_for_one_computation(answers: Answers, project: Project) -> None:
    publish(project)
    champion = Champion(project.registry, load_slow)
    SlowEngine.go_on.clear()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, answers, project, champion, task(id)) for id in range(1, 7)]
        assert SlowEngine.began.wait(DEADLINE)
        eventually(lambda: _waiting(answers) == 1)
        SlowEngine.go_on.set()
        found = [one.result(DEADLINE).elements[0]["result"] for one in asked]
    assert SlowEngine.looked <= 2  # one who came when the first had just ended may look again
    assert len({len(result) for result in found}) == 1


def _waiting(answers: Answers) -> int:
    return len(answers._once._running)


def test_while_a_new_champion_loads_requests_are_answered_by_the_old_alone(
    answers: Answers, project: Project
) -> None:
    first = publish(project, 1)
    loading, go_on = threading.Event(), threading.Event()

    def load(folder: Path) -> SlowEngine:
        if folder.name != first:
            loading.set()
            assert go_on.wait(DEADLINE)
        return load_slow(folder)

    champion = Champion(project.registry, load)
    ask(answers, project, champion, task(1))
    second = publish(project, 2)
    keep(project, second, 2)  # the trainer was quicker than we
    answered = ask(answers, project, champion, task(1), task(2), task(3))
    assert loading.is_set() or loading.wait(DEADLINE)
    assert answered.version == first
    assert {element["model_version"] for element in answered.elements} == {first}
    assert ask(answers, project, champion, task(2)).version == second  # all of it is kept: no model needed
    go_on.set()
    eventually(lambda: champion.current().version == second)
    answered = ask(answers, project, champion, task(1), task(2), task(3))
    assert {element["model_version"] for element in answered.elements} == {second}


def test_a_request_under_way_ends_with_the_model_it_began_with(answers: Answers, project: Project) -> None:
    first = publish(project, 1)
    champion = Champion(project.registry, load_slow)
    champion.current()
    SlowEngine.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, answers, project, champion, task(1), task(2, image=1))
        assert SlowEngine.began.wait(DEADLINE)
        second = publish(project, 2)
        eventually(lambda: champion.current().version == second)
        SlowEngine.go_on.set()
        answered = asked.result(DEADLINE)
    assert {answered.version, *(e["model_version"] for e in answered.elements)} == {first}


def test_a_model_that_cannot_be_loaded_leaves_what_is_kept(answers: Answers, project: Project) -> None:
    version = publish(project)
    keep(project, version, 1)

    def load(folder: Path) -> ThresholdSegmenter:
        raise BrokenModel("It is damaged.")

    answered = ask(answers, project, Champion(project.registry, load), task(1), task(2))
    assert "result" in answered.elements[0]
    assert answered.elements[1] == {"error": "It is damaged."}


def test_an_error_reaches_all_who_waited_and_is_not_kept() -> None:
    once: ComputedOnce[int] = ComputedOnce()

    def fail() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        once.get("a", fail)
    assert once.get("a", lambda: 3) == 3
