"""Label Studio's own *next task* follows our order: before any model and after a promotion."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from backend.stand_ins import load_threshold, publish

from examples.demo.label_studio import LabelStudioProcess
from srpu_backend import pool
from srpu_backend.annotator import Annotator, Champion
from srpu_backend.batch import BATCH_BELOW, COLD_START, Place, read_batch, waiting
from srpu_backend.evolution import Evolution
from srpu_backend.images import ImageStore
from srpu_backend.projects import Project, Projects
from srpu_backend.settings import Settings
from srpu_backend.write_back import UNCERTAINTY_SAMPLING

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="pore"/><Label value="grain"/></BrushLabels>
  <RectangleLabels name="box" toName="image"><Label value="pore"/><Label value="grain"/></RectangleLabels>
</View>"""
SIDE = 64
BATCH = 5
NAMES = (*(f"film-{frame:03d}.png" for frame in range(4)), *(f"specimen-{c}.png" for c in "abcdefgh"))


class Straight:
    """Steps as they are called when nothing goes wrong."""

    def once(self, action: Callable[..., Any], *args: Any) -> Any:
        return action(*args)

    retried = once

    def workflow_id(self) -> str:
        return "run"

    def cancelled(self) -> bool:
        return False


class NoTraining:
    """Nobody trains here: the model is made by hand."""

    def evolve(self, project_id: int, reason: str, *, forced: bool = False) -> None:
        """Not now."""


class Person:
    """Somebody who labels what Label Studio hands out."""

    def __init__(self, url: str, project_id: int) -> None:
        self.url, self.project_id = url, project_id
        self.session = requests.Session()

    @classmethod
    def with_token(cls, url: str, project_id: int, token: str) -> Person:
        person = cls(url, project_id)
        person.session.headers["Authorization"] = f"Token {token}"
        return person

    @classmethod
    def invited(cls, url: str, project_id: int, host: Person, email: str) -> Person:
        """A second account of the same organization, made as a person would make it."""
        invitation = host.send("GET", "/api/invite").json()["token"]
        person = cls(url, project_id)
        person.session.get(f"{url}/user/signup/?token={invitation}", timeout=30).raise_for_status()
        form = {"email": email, "password": "srpu-Passw0rd"}
        person.send("POST", f"/user/signup/?token={invitation}", data=form)
        return person

    def next_task(self) -> int:
        return int(self.send("GET", f"/api/projects/{self.project_id}/next").json()["id"])

    def label(self, task: int) -> None:
        self.send("POST", f"/api/tasks/{task}/annotations/", json={"result": [_box()], "lead_time": 1.0})

    def send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {"X-CSRFToken": self.session.cookies.get("csrftoken", ""), "Referer": self.url}
        answer = self.session.request(method, f"{self.url}{path}", timeout=30, headers=headers, **arguments)
        answer.raise_for_status()
        return answer


class Lab:
    """A project with twelve images, four of them frames of one film, and the loop without trainings."""

    def __init__(self, label_studio: LabelStudioProcess, studio: Any, id: int, root: Path) -> None:
        self.id, self.studio, self.url = id, studio, label_studio.url
        self.person = Person.with_token(self.url, id, label_studio.account.token)
        settings = Settings(model_dir=root, label_batch=BATCH)
        self.projects = Projects(root)
        self.projects.remember(id, url=self.url, token=label_studio.account.token, label_config=CONFIG)
        self.evolution = Evolution(
            settings,
            self.projects,
            ImageStore(settings, root / "images"),
            NoTraining(),
            Straight(),
            threading.Event(),
            lambda: datetime.now(UTC),
        )
        files = {name: (name, _micrograph(number)) for number, name in enumerate(NAMES)}
        for name in NAMES:
            self.person.send("POST", f"/api/projects/{id}/import", files={"file": files[name]})

    @property
    def project(self) -> Project:
        return self.projects.get(self.id)

    def order(self) -> list[int]:
        return [place.task for place in self.places()]

    def all_tasks(self) -> list[int]:
        return sorted(int(row["id"]) for row in self.studio.task_rows(self.id))

    def places(self) -> tuple[Place, ...]:
        return waiting(read_batch(self.project), self.project.mirror)

    def held(self) -> list[dict[str, Any]]:
        """All predictions Label Studio holds."""
        found: list[dict[str, Any]] = self.person.send("GET", f"/api/predictions/?project={self.id}").json()
        return found

    def promote(self) -> str:
        version = publish(self.project, 1 + len(self.project.registry.versions()))
        self.evolution.annotate(self.id)
        self.evolution.rank(self.id)
        self.evolution.tell(self.id)
        return version


@pytest.fixture
def lab(
    label_studio: LabelStudioProcess,
    studio: Any,
    new_project: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Lab:
    def by_threshold(project: Project, images: Any) -> Annotator:
        return Annotator(project, images, Champion(project.registry, load_threshold))

    monkeypatch.setattr(pool, "Annotator", by_threshold)
    return Lab(label_studio, studio, new_project(label_config=CONFIG), tmp_path)


def test_the_next_task_follows_our_order_before_and_after_a_promotion(lab: Lab) -> None:
    lab.evolution.refresh(lab.id)
    first = lab.order()
    assert len(first) == BATCH
    described = lab.studio.project(lab.id)
    assert (described["model_version"], described["sampling"]) == (COLD_START, UNCERTAINTY_SAMPLING)
    assert len(set(first) & _film(lab)) <= 1, "at most one frame of the film"
    assert "control" in {place.arm for place in lab.places()}
    assert all(place.why for place in lab.places())

    assert _label_as_handed_out(lab, 3) == first[:3]
    lab.evolution.refresh(lab.id)
    refilled = lab.order()
    assert refilled[:2] == first[3:], "what is left keeps its place"
    assert len(refilled) == BATCH
    assert len(set(refilled) & _film(lab)) <= 1
    assert max(Counter(held["task"] for held in lab.held()).values()) == 1
    assert _label_as_handed_out(lab, 1) == refilled[:1]
    lab.evolution.pull(lab.id)

    version = lab.promote()
    order = lab.order()
    assert len(order) == BATCH
    assert lab.studio.project(lab.id)["model_version"] == version
    scores = {held["task"]: held["score"] for held in lab.held()}
    assert {held["model_version"] for held in lab.held()} == {version}
    assert len(scores) == len(lab.held()) == len(NAMES) - 4
    rest = sorted(scores.keys() - set(order), key=lambda task: (scores[task], task))
    assert all(scores[task] >= BATCH_BELOW for task in rest)
    assert _label_as_handed_out(lab, BATCH) == order


def test_a_batch_that_changes_is_told_again_and_no_task_has_two_predictions(lab: Lab) -> None:
    lab.evolution.refresh(lab.id)
    version = lab.promote()
    lab.projects.remember(lab.id, parameters={"strategy": "coreset"})
    lab.evolution.refresh(lab.id)
    assert read_batch(lab.project).strategy == "coreset"  # type: ignore[union-attr]
    assert Counter(held["task"] for held in lab.held()) == Counter(lab.all_tasks())
    assert {held["model_version"] for held in lab.held()} == {version}
    assert _label_as_handed_out(lab, 2) == lab.order()[:2]


def test_two_annotators_get_our_order_between_them_and_no_task_twice(lab: Lab) -> None:
    lab.evolution.refresh(lab.id)
    other = Person.invited(lab.url, lab.id, lab.person, "second@srpu.local")
    for _ in range(2):
        order = lab.order()
        handed_out = []
        for _ in range(2):
            mine, theirs = lab.person.next_task(), other.next_task()
            handed_out += [mine, theirs]
            lab.person.label(mine)
            other.label(theirs)
        assert handed_out == order[:4]
        lab.evolution.pull(lab.id)
        lab.promote()


def _label_as_handed_out(lab: Lab, count: int) -> list[int]:
    tasks = []
    for _ in range(count):
        tasks.append(lab.person.next_task())
        lab.person.label(tasks[-1])
    return tasks


def _film(lab: Lab) -> set[int]:
    return {int(row["id"]) for row in lab.studio.task_rows(lab.id) if "film" in row["data"]["image"]}


def _micrograph(number: int) -> bytes:
    """Three materials; the frames of the film (0 to 3) are of the first."""
    random = np.random.default_rng(number)
    kind = 0 if number < 4 else number % 3
    noise = random.normal(0, 40, (SIDE, SIDE)).astype(np.float32)
    image = 120 + cv2.GaussianBlur(noise, (0, 0), 0.5 + 1.5 * kind) * (1 + 2 * kind)
    _, png = cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))
    return bytes(png.tobytes())


def _box() -> dict[str, Any]:
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["pore"]}
    common = {"id": "pore-1", "type": "rectanglelabels", "from_name": "box", "to_name": "image"}
    return {**common, "original_width": SIDE, "original_height": SIDE, "image_rotation": 0, "value": value}
