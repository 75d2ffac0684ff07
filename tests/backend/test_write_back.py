"""Label Studio holds one prediction of the champion a task, however often the trainer is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from srpu_backend import write_back as module
from srpu_backend.batch import BATCH_BELOW, COLD_START, Order, score_of
from srpu_backend.mirror import MirroredTask, TaskMirror
from srpu_backend.prediction_files import Prediction, PredictionFiles
from srpu_backend.write_back import TAB_TITLE, UNCERTAINTY_SAMPLING, cold_start, write_back

pytestmark = pytest.mark.fast

_NOW = datetime(2026, 11, 23, tzinfo=UTC)
OLD, NEW = "v0001-aaaaaa", "v0002-bbbbbb"


class Killed(BaseException):
    """The trainer was killed here."""


class FakeStudio:
    """Label Studio's predictions in memory, with its ways: PATCH of an unknown version is refused."""

    def __init__(self) -> None:
        self.predictions: list[tuple[int, str, float]] = []
        self.fields: dict[str, Any] = {"model_version": "SRPU", "sampling": "Sequential sampling"}
        self.tabs: list[dict[str, Any]] = []
        self.killed_in: str = ""
        self.rescored: list[int] = []

    def project(self, id: int) -> dict[str, Any]:
        return dict(self.fields)

    def update_project(self, id: int, **fields: Any) -> dict[str, Any]:
        assert fields["model_version"] in self.prediction_versions(id)
        self.fields |= fields
        return self.fields

    def predicted_tasks(self, id: int, version: str) -> set[int]:
        return {task for task, of, _ in self.predictions if of == version}

    def import_predictions(self, id: int, predictions: list[dict[str, Any]]) -> int:
        self.predictions += [(p["task"], p["model_version"], p["score"]) for p in predictions]
        self._maybe_killed("import")
        return len(predictions)

    def prediction_versions(self, id: int) -> dict[str, int]:
        return dict(Counter(version for _, version, _ in self.predictions))

    def delete_predictions(self, id: int, version: str) -> None:
        self.predictions = [p for p in self.predictions if p[1] != version]
        if self.fields["model_version"] == version:
            self.fields["model_version"] = None
        self._maybe_killed("delete")

    def rescore_prediction(self, task: int, version: str, score: float) -> None:
        assert (task, version) in {(t, v) for t, v, _ in self.predictions}
        self.rescored.append(task)
        self.predictions = [(t, v, score if (t, v) == (task, version) else s) for t, v, s in self.predictions]
        self._maybe_killed("rescore")

    def views(self, id: int) -> list[dict[str, Any]]:
        return self.tabs

    def create_view(self, id: int, title: str, ordering: Sequence[str]) -> None:
        self.tabs.append({"data": {"title": title, "ordering": list(ordering)}})
        self._maybe_killed("tab")

    def _maybe_killed(self, where: str) -> None:
        if self.killed_in == where:
            self.killed_in = ""
            raise Killed


@pytest.fixture
def studio() -> FakeStudio:
    return FakeStudio()


@pytest.fixture
def mirror(tmp_path: Path) -> TaskMirror:
    mirror = TaskMirror(tmp_path / "tasks.sqlite")
    mirror.upsert(MirroredTask(id, "m", _data(id), None) for id in range(1, 8))
    mirror.upsert([MirroredTask(8, "m", _data(8), {"result": []}, "labelled")])
    return mirror


@pytest.fixture
def files(tmp_path: Path) -> PredictionFiles:
    return _files(tmp_path, NEW)


def _data(id: int) -> dict[str, Any]:
    return {"image": f"{id}.png"}


def _files(root: Path, version: str) -> PredictionFiles:
    files = PredictionFiles(root, version)
    for id in range(1, 8):
        files.put(Prediction(id, [{"id": "r"}], score=(id * 3 % 7) / 10, model_version=version), _data(id))
    return files


def tell(
    studio: FakeStudio,
    mirror: TaskMirror,
    files: PredictionFiles,
    order: Mapping[int, float] = MappingProxyType({}),
) -> int:
    told = files.folder.parents[1] / "told.json"
    return write_back(
        1, studio, mirror, files, Order(told, files.version, order), [OLD, NEW, COLD_START], _NOW
    )


def test_the_new_version_takes_the_place_of_the_old(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles, tmp_path: Path
) -> None:
    tell(studio, mirror, _files(tmp_path, OLD))
    assert tell(studio, mirror, files) == 7
    assert studio.prediction_versions(1) == {NEW: 7}
    assert studio.fields == {
        "model_version": NEW,
        "sampling": UNCERTAINTY_SAMPLING,
        "show_collab_predictions": True,
    }
    assert [tab["data"]["title"] for tab in studio.tabs] == [TAB_TITLE]


def test_what_teaches_most_is_written_first_and_labelled_tasks_are_left_alone(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    tell(studio, mirror, files)
    scores = [score for _, _, score in studio.predictions]
    assert scores == sorted(scores)
    assert 8 not in studio.predicted_tasks(1, NEW)


def test_telling_twice_changes_nothing_and_keeps_what_the_annotator_set(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    tell(studio, mirror, files)
    studio.fields["sampling"] = "Sequential sampling"
    assert tell(studio, mirror, files) == 0
    assert studio.prediction_versions(1) == {NEW: 7}
    assert studio.fields["sampling"] == "Sequential sampling"
    assert len(studio.tabs) == 1


@pytest.mark.parametrize("where", ["import", "tab", "delete"])
def test_killed_anywhere_and_told_again_the_end_is_the_same(
    studio: FakeStudio,
    mirror: TaskMirror,
    files: PredictionFiles,
    tmp_path: Path,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_REQUEST_ITEMS", 2)
    tell(studio, mirror, _files(tmp_path, OLD))
    studio.tabs.clear()
    studio.killed_in = where
    with pytest.raises(Killed):
        tell(studio, mirror, files)
    tell(studio, mirror, files)
    assert studio.prediction_versions(1) == {NEW: 7}
    assert len({task for task, _, _ in studio.predictions}) == 7
    assert studio.fields["model_version"] == NEW
    assert mirror.count_unpredicted(NEW, _NOW) == 0


def test_until_the_last_one_is_in_the_old_version_is_served(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles, tmp_path: Path
) -> None:
    tell(studio, mirror, _files(tmp_path, OLD))
    studio.killed_in = "import"
    with pytest.raises(Killed):
        tell(studio, mirror, files)
    assert studio.fields["model_version"] == OLD
    assert studio.prediction_versions(1)[OLD] == 7


def test_a_task_that_cannot_be_predicted_now_holds_nobody_up(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles, tmp_path: Path
) -> None:
    tell(studio, mirror, _files(tmp_path, OLD))
    mirror.upsert([MirroredTask(9, "m", _data(9), None)])
    tell(studio, mirror, files)
    assert studio.fields["model_version"] == OLD
    mirror.put_off(9, NEW, _NOW + timedelta(minutes=10))
    tell(studio, mirror, files)
    assert studio.fields["model_version"] == NEW
    assert studio.prediction_versions(1) == {NEW: 7}


def test_a_prediction_that_label_studio_asked_for_itself_is_not_doubled(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    studio.predictions.append((3, NEW, 0.2))
    assert tell(studio, mirror, files) == 6
    assert Counter(task for task, _, _ in studio.predictions)[3] == 1


def test_doubled_predictions_are_taken_back(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    tell(studio, mirror, files)
    studio.predictions.append((3, NEW, 0.2))
    tell(studio, mirror, files)
    assert studio.prediction_versions(1) == {NEW: 7}
    assert studio.fields["model_version"] == NEW


def test_predictions_of_others_are_not_ours_to_remove(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    studio.predictions.append((3, "somebody-else", 0.2))
    tell(studio, mirror, files)
    assert studio.prediction_versions(1)["somebody-else"] == 1


def test_without_predictions_label_studio_is_left_as_it_is(
    studio: FakeStudio, mirror: TaskMirror, tmp_path: Path
) -> None:
    assert tell(studio, mirror, PredictionFiles(tmp_path, "v0009-cccccc")) == 0
    assert studio.fields["model_version"] == "SRPU"


def test_a_prediction_made_from_other_task_data_is_not_used(files: PredictionFiles) -> None:
    assert files.get(3, _data(3)) is not None
    assert files.get(3, {"image": "another.png"}) is None


def test_the_batch_comes_first_in_its_order_and_the_rest_by_confidence(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    tell(studio, mirror, files, {5: score_of(0), 2: score_of(1)})
    served = [task for task, _, _ in sorted(studio.predictions, key=lambda p: p[2])]
    assert served[:2] == [5, 2]
    rest = [files.get(task, _data(task)) for task in served[2:]]
    confidences = [prediction.score for prediction in rest if prediction is not None]
    assert confidences == sorted(confidences)


def test_only_what_changed_its_place_is_told_again(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    tell(studio, mirror, files, {5: score_of(0), 2: score_of(1), 7: score_of(2)})
    assert studio.rescored == []
    tell(studio, mirror, files, {2: score_of(1), 7: score_of(2), 3: score_of(3)})
    assert studio.rescored == [3, 5]
    scores = {task: score for task, _, score in studio.predictions}
    assert (scores[3], scores[5]) == (score_of(3), max(BATCH_BELOW, 0.1))
    tell(studio, mirror, files, {2: score_of(1), 7: score_of(2), 3: score_of(3)})
    assert studio.rescored == [3, 5]


def test_killed_while_places_are_told_no_task_has_two_predictions(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles
) -> None:
    tell(studio, mirror, files)
    order = {5: score_of(0), 2: score_of(1), 7: score_of(2)}
    studio.killed_in = "rescore"
    with pytest.raises(Killed):
        tell(studio, mirror, files, order)
    tell(studio, mirror, files, order)
    assert studio.prediction_versions(1) == {NEW: 7}
    assert {task: score for task, _, score in studio.predictions if task in order} == order


def test_a_new_version_is_told_all_its_places(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles, tmp_path: Path
) -> None:
    tell(studio, mirror, _files(tmp_path, OLD), {5: score_of(0)})
    tell(studio, mirror, files, {4: score_of(0)})
    assert min(studio.predictions, key=lambda p: p[2])[:2] == (4, NEW)


def cold(studio: FakeStudio, mirror: TaskMirror, root: Path, order: Mapping[int, float]) -> int:
    return cold_start(1, studio, mirror, Order(root / "told.json", COLD_START, order))


def test_before_any_model_the_batch_is_served_in_its_order(
    studio: FakeStudio, mirror: TaskMirror, tmp_path: Path
) -> None:
    assert cold(studio, mirror, tmp_path, {6: score_of(0), 3: score_of(1)}) == 2
    assert studio.predictions == [(6, COLD_START, score_of(0)), (3, COLD_START, score_of(1))]
    assert studio.fields["model_version"] == COLD_START
    assert studio.fields["sampling"] == UNCERTAINTY_SAMPLING
    assert cold(studio, mirror, tmp_path, {3: score_of(1), 7: score_of(2)}) == 1
    assert Counter(task for task, _, _ in studio.predictions) == {6: 1, 3: 1, 7: 1}
    assert studio.rescored == [6], "it left the batch without a label: it comes after the others"


@pytest.mark.parametrize("where", ["import", "tab"])
def test_killed_in_the_cold_start_and_told_again_the_end_is_the_same(
    studio: FakeStudio, mirror: TaskMirror, tmp_path: Path, where: str
) -> None:
    order = {6: score_of(0), 3: score_of(1)}
    studio.killed_in = where
    with pytest.raises(Killed):
        cold(studio, mirror, tmp_path, order)
    cold(studio, mirror, tmp_path, order)
    assert studio.prediction_versions(1) == {COLD_START: 2}
    assert studio.fields["model_version"] == COLD_START


def test_the_first_champion_takes_the_place_of_the_cold_start(
    studio: FakeStudio, mirror: TaskMirror, files: PredictionFiles, tmp_path: Path
) -> None:
    cold(studio, mirror, tmp_path, {6: score_of(0)})
    tell(studio, mirror, files)
    assert studio.prediction_versions(1) == {NEW: 7}
    assert studio.fields["model_version"] == NEW


def test_a_project_that_holds_predictions_of_others_keeps_their_order(
    studio: FakeStudio, mirror: TaskMirror, tmp_path: Path
) -> None:
    studio.predictions.append((3, "somebody-else", 0.2))
    assert cold(studio, mirror, tmp_path, {6: score_of(0)}) == 0
    assert studio.fields["model_version"] == "SRPU"


def test_without_a_batch_a_project_is_left_as_it_is(
    studio: FakeStudio, mirror: TaskMirror, tmp_path: Path
) -> None:
    assert cold(studio, mirror, tmp_path, {}) == 0
    assert studio.fields["model_version"] == "SRPU"
