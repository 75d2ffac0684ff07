"""One turn of the loop, told step by step; every step may be done twice and nothing changes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_zoo.card import ClassInfo, ModelCard, ModelSpec
from model_zoo.inference.engine_record import EngineChoice, EngineMeasurement
from srpu_backend import evolution as module
from srpu_backend import pool
from srpu_backend.annotator import Annotation
from srpu_backend.batch import COLD_START
from srpu_backend.children import TrainingFailed
from srpu_backend.due import last_attempt
from srpu_backend.evolution import Evolution, WorkerStopping
from srpu_backend.images import ImageUnavailable
from srpu_backend.jobs import JobCancelled
from srpu_backend.projects import Project, Projects
from srpu_backend.settings import Settings
from training.data.manifest import Manifest
from training.scoring.evaluation import Evaluation, ImageScore

pytestmark = pytest.mark.fast

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="matrix"/><Label value="pore"/></BrushLabels>
  <RectangleLabels name="box" toName="image"><Label value="matrix"/><Label value="pore"/></RectangleLabels>
</View>"""
SIDE = 16
NOW = datetime(2026, 11, 23, tzinfo=UTC)


_ENGINE = EngineChoice(
    engine="openvino",
    device="cpu",
    processor="p",
    threads=2,
    images=2,
    sizes=((SIDE, SIDE),),
    measured=(EngineMeasurement(engine="openvino", milliseconds=1, equal_pixels=1, eligible=True),),
)


class Once:
    """Steps as they are called when nothing goes wrong."""

    def __init__(self) -> None:
        self.run = "run-1"
        self.is_cancelled = False
        self.names: list[str] = []

    def once(self, action: Callable[..., Any], *args: Any) -> Any:
        self.names.append(action.__name__)
        return action(*args)

    retried = once

    def workflow_id(self) -> str:
        return self.run

    def cancelled(self) -> bool:
        return self.is_cancelled


class Twice(Once):
    """As when the trainer is killed after each step, before that is noted."""

    def once(self, action: Callable[..., Any], *args: Any) -> Any:
        super().once(action, *args)
        return super().once(action, *args)

    retried = once


class FakeStudio:
    """Four tasks more than are labelled; remembers what it is told."""

    def __init__(self) -> None:
        self.labelled = 4
        self.predictions: list[tuple[int, str]] = []
        self.fields: dict[str, Any] = {"model_version": "SRPU"}

    def __enter__(self) -> FakeStudio:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def project(self, id: int) -> dict[str, Any]:
        return {"title": "t", "label_config": CONFIG, "task_number": 8, **self.fields}

    def task_rows(self, id: int, changed_since: str = "") -> Any:
        for task in range(1, 9):
            labelled = task <= self.labelled
            yield {
                "id": task,
                "data": {"image": f"/data/upload/1/{task:08x}-spec{chr(96 + task)}.png"},
                "updated_at": f"2026-11-23T10:00:00.{int(labelled):06d}Z",
                "total_annotations": int(labelled),
                "cancelled_annotations": 0,
            }

    def export(self, id: int, task_ids: Sequence[int]) -> list[dict[str, Any]]:
        return [{"id": t, "annotations": [{"id": t, "result": _boxes(t)}]} for t in task_ids]

    def update_project(self, id: int, **fields: Any) -> dict[str, Any]:
        self.fields |= fields
        return self.fields

    def predicted_tasks(self, id: int, version: str) -> set[int]:
        return {task for task, of in self.predictions if of == version}

    def import_predictions(self, id: int, predictions: Sequence[dict[str, Any]]) -> int:
        self.predictions += [(p["task"], p["model_version"]) for p in predictions]
        return len(predictions)

    def prediction_versions(self, id: int) -> dict[str, int]:
        return dict(Counter(version for _, version in self.predictions))

    def delete_predictions(self, id: int, version: str) -> None:
        self.predictions = [p for p in self.predictions if p[1] != version]

    def rescore_prediction(self, task: int, version: str, score: float) -> None:
        """Nothing to remember."""

    def views(self, id: int) -> list[dict[str, Any]]:
        return []

    def create_view(self, id: int, title: str, ordering: Sequence[str]) -> None:
        """Nothing to remember."""


class FakeTrainer:
    """`python -m training` without the training."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.options: list[str] = []
        self.failure = ""
        self.no_engine = ""
        self.accuracy = 0.9

    def __call__(self, arguments: Sequence[str], work: Path, report: Any, go_on: Any) -> None:
        go_on()
        self.commands.append(arguments[0])
        given = dict(zip(arguments[1::2], arguments[2::2], strict=False))
        if self.failure:
            raise TrainingFailed(self.failure, bad_input=True)
        manifest = Manifest.read(Path(given["--manifest"]))
        if arguments[0] == "train":
            self.options = list(arguments)
            report({"fraction": 0.5, "message": "half way"})
            _write_model(Path(given["--out"]), manifest.classes, self.accuracy)
        elif arguments[0] == "choose-engine":
            if self.no_engine:
                raise TrainingFailed(self.no_engine)
            _ENGINE.on(ModelCard.read(work)).write(work)
        else:
            _write_evaluation(Path(given["--out"]), Path(given["--model"]), manifest)


class FakeAnnotator:
    """The champion, without a model; task 7 has no image."""

    def __init__(self, project: Project, images: Any) -> None:
        self._project = project

    def version(self) -> str | None:
        return self._project.registry.champion()

    def annotate(self, task: dict[str, Any]) -> Annotation:
        if task["id"] == 7:
            raise ImageUnavailable("spec7 cannot be had.")
        return Annotation([{"id": "r"}], task["id"] / 10, self.version() or "", dropped=int(task["id"] == 8))


class Images:
    """Grey squares."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fetch(self, reference: str, connection: Any, task_id: int | None = None) -> Path:
        path = self._root / reference.rsplit("/", 1)[-1]
        cv2.imwrite(str(path), np.full((SIDE, SIDE), 100, np.uint8))
        return path


class Asked:
    """What the loop asked for."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def evolve(self, project_id: int, reason: str, *, forced: bool = False) -> None:
        self.reasons.append(reason)


class World:
    """All of it together."""

    def __init__(self, root: Path, steps: Once, monkeypatch: pytest.MonkeyPatch) -> None:
        (root / "images").mkdir()
        self.studio, self.trainer, self.asked, self.steps = FakeStudio(), FakeTrainer(), Asked(), steps
        self.stopping = threading.Event()
        self.projects = Projects(root)
        self.projects.remember(1, url="http://127.0.0.1:1", token="t", label_config=CONFIG)
        self.settings = Settings(model_dir=root, holdout_share=0.5, min_holdout_images=1, preset="test")
        monkeypatch.setattr(module, "run_training", self.trainer)
        monkeypatch.setattr(pool, "Annotator", FakeAnnotator)
        monkeypatch.setattr(module, "Studio", lambda *_: self.studio)
        self.evolution = Evolution(
            self.settings,
            self.projects,
            Images(root / "images"),  # type: ignore[arg-type]
            self.asked,
            steps,
            self.stopping,
            lambda: NOW,
        )

    @property
    def project(self) -> Project:
        return self.projects.get(1)

    def turn(self, run: str = "run-1", forced: bool = False) -> str:
        self.steps.run = run
        return self.evolution.evolve(1, "labels", forced)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, Once(), monkeypatch)


def test_the_story_from_labels_to_predictions(world: World) -> None:
    outcome = world.turn()
    assert world.steps.names == [
        "pull", "plan", "train", "judge", "publish", "promote", "annotate", "rank", "tell"
    ]  # fmt: skip
    champion = world.project.registry.champion()
    assert champion is not None and champion.startswith("v0001-")
    assert champion in outcome
    assert world.studio.predictions == [(task, champion) for task in (5, 6, 8)]
    assert world.studio.fields["model_version"] == champion
    state = world.project.state()
    assert (state.stage, state.run, state.last_error) == ("idle", "", "")
    card = world.project.registry.card(champion)
    assert card.metrics["gate"]["decision"] == "promote"
    assert card.training_images + card.holdout_images == 4
    assert world.trainer.options[5:7] == ["--preset", "test"]


def test_every_step_may_be_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, Twice(), monkeypatch)
    world.turn()
    champion = world.project.registry.champion()
    assert world.project.registry.versions() == [champion]
    assert [e.action for e in world.project.registry.history()] == ["publish", "promote"]
    assert sorted(world.studio.predictions) == [(task, champion) for task in (5, 6, 8)]
    assert world.trainer.commands.count("train") == 1
    assert world.trainer.commands.count("choose-engine") == 1


def test_what_serves_it_is_chosen_before_it_is_judged_and_published(world: World) -> None:
    world.turn()
    champion = world.project.registry.champion()
    assert world.trainer.commands[:3] == ["train", "choose-engine", "evaluate"]
    assert EngineChoice.of(world.project.registry.card(champion or "")) == _ENGINE


def test_a_model_is_served_though_no_engine_could_be_chosen(world: World) -> None:
    world.trainer.no_engine = "The choose-engine process was killed."
    world.turn()
    champion = world.project.registry.champion()
    assert EngineChoice.of(world.project.registry.card(champion or "")) is None
    (problem,) = (p for p in world.project.problems() if p.where == "engine")
    assert "was killed" in problem.message


def test_the_choice_can_be_switched_off(world: World) -> None:
    world.evolution._settings = world.settings.model_copy(update={"choose_engine": False})
    world.turn()
    assert "choose-engine" not in world.trainer.commands


def test_without_new_labels_nothing_is_trained_unless_somebody_asks(world: World) -> None:
    world.turn()
    assert world.turn("run-2") == "nothing new to learn"
    assert len(world.project.registry.versions()) == 1
    world.turn("run-3", forced=True)
    assert len(world.project.registry.versions()) == 2


def test_a_worse_challenger_is_kept_and_not_promoted(world: World) -> None:
    world.turn()
    first = world.project.registry.champion()
    world.trainer.accuracy = 0.2
    world.studio.labelled = 6
    outcome = world.turn("run-2")
    assert "not promoted" in outcome
    assert world.project.registry.champion() == first
    assert len(world.project.registry.versions()) == 2
    gate = world.project.state().gate
    assert gate is not None and gate["decision"] == "refuse"


def test_a_failed_training_keeps_the_champion_and_says_why(world: World) -> None:
    world.turn()
    first = world.project.registry.champion()
    world.studio.labelled = 6
    world.trainer.failure = "There is no encoder 'x'."
    with pytest.raises(TrainingFailed):
        world.turn("run-2")
    state = world.project.state()
    assert (state.stage, state.run, state.last_error) == ("failed", "", "There is no encoder 'x'.")
    assert f"{first} goes on serving" in state.message
    attempt = last_attempt(world.project)
    assert attempt is not None and attempt.failed

    world.trainer.failure = ""
    assert world.turn("run-3") == "nothing new to learn"
    world.studio.labelled = 7
    world.turn("run-4")
    assert world.project.registry.champion() != first
    assert world.project.state().last_error == ""


def test_an_interrupted_run_keeps_its_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise WorkerStopping

    with monkeypatch.context() as patched, pytest.raises(WorkerStopping):
        patched.setattr(module, "run_training", stop)
        world.turn()
    attempt = last_attempt(world.project)
    assert attempt is not None and not attempt.failed
    world.turn()
    assert world.project.registry.champion() == attempt.version


def test_a_stopping_trainer_and_a_cancelled_run_leave_in_the_middle_of_a_step(world: World) -> None:
    world.stopping.set()
    with pytest.raises(WorkerStopping):
        world.turn()
    world.stopping.clear()
    world.steps.is_cancelled = True
    with pytest.raises(JobCancelled):
        world.turn()
    assert world.project.registry.champion() is None


def test_a_champion_that_cannot_be_measured_gives_way(world: World) -> None:
    world.turn()
    first = world.project.registry.champion()
    (world.project.registry.folder(first or "") / "accuracy").write_text("broken")
    world.studio.labelled = 6
    world.turn("run-2")
    assert world.project.registry.champion() != first
    assert any("cannot be measured" in problem.message for problem in world.project.problems())


def test_a_task_whose_image_cannot_be_had_is_put_off_and_named(world: World) -> None:
    world.turn()
    champion = world.project.registry.champion() or ""
    assert any("Task 7: spec7 cannot be had." in problem.message for problem in world.project.problems())
    assert world.project.mirror.count_unpredicted(champion, NOW) == 0
    assert world.project.mirror.count_unpredicted(champion, NOW + timedelta(hours=1)) == 1


def test_a_look_predicts_new_tasks_and_asks_for_a_training_when_one_is_due(world: World) -> None:
    world.evolution.refresh(1)
    assert world.asked.reasons == ["4 labels to start with"]
    assert sorted(world.studio.predictions) == [(task, COLD_START) for task in (5, 6, 7, 8)]
    assert world.studio.fields["model_version"] == COLD_START
    world.turn()
    world.studio.predictions.clear()
    world.evolution.refresh(1)
    assert [task for task, _ in world.studio.predictions] == [5, 6, 8]
    assert len(world.asked.reasons) == 1


def test_labels_that_cannot_be_learnt_from_are_not_tried_again_every_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any, **__: Any) -> Path:
        raise ImageUnavailable("gone.")

    monkeypatch.setattr(Images, "fetch", unavailable)
    with pytest.raises(module.NothingToLearn):
        world.turn()
    assert "gone." in world.project.state().last_error
    world.evolution.refresh(1)
    assert world.asked.reasons == []


def _boxes(task: int) -> list[dict[str, Any]]:
    def box(label: str, x: int, width: int) -> dict[str, Any]:
        value = {"x": x, "y": 0, "width": width, "height": 100, "rotation": 0, "rectanglelabels": [label]}
        common = {"id": f"{label}{task}", "from_name": "box", "to_name": "image", "type": "rectanglelabels"}
        return {**common, "original_width": SIDE, "original_height": SIDE, "value": value}

    return [box("matrix", 0, 100), box("pore", 50, 50)]


def _write_model(folder: Path, classes: tuple[ClassInfo, ...], accuracy: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(f"weights {accuracy}".encode())
    ModelCard(version="", created_at=NOW, spec=ModelSpec(classes=len(classes)), classes=classes).write(folder)


def _write_evaluation(out: Path, model: Path, manifest: Manifest) -> None:
    if (model / "accuracy").exists():
        raise TrainingFailed(f"{model} is broken.", bad_input=True)
    right = int(100 * float((model / "model.safetensors").read_text().split()[1]))
    size = len(manifest.classes)
    confusion = np.full((size, size), 100 - right)
    np.fill_diagonal(confusion, right)
    images = tuple(
        ImageScore(key=s.key, group=s.group, confusion=tuple(map(tuple, confusion.tolist())))
        for s in manifest.of("holdout")
    )
    names = tuple(info.name for info in manifest.classes)
    out.write_text(Evaluation(model="", part="holdout", classes=names, images=images).model_dump_json())


def test_the_models_parameters_change_the_training_of_their_project(world: World) -> None:
    world.projects.remember(1, parameters={"encoder": "resnet18"})
    world.turn()
    assert 'encoder="resnet18"' in world.trainer.options


def test_areas_left_out_of_the_polygons_are_said(world: World) -> None:
    world.turn()
    said = [problem.message for problem in world.project.problems() if "Task 8" in problem.message]
    assert len(said) == 1 and "model_max_regions" in said[0]
