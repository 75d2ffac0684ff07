"""The mirror keeps what Label Studio had, and reconciling asks only for what changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from srpu_backend.mirror import Counts, MirroredTask, TaskMirror, counting_annotation, label_fingerprint
from srpu_backend.projects import Projects
from srpu_backend.reconcile import reconcile

pytestmark = pytest.mark.fast

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def annotation(id: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": id, "result": [{"id": f"r{id}"}], "updated_at": f"2026-11-23T10:00:{id:02d}Z", **fields}


class FakeStudio:
    """Label Studio in memory; counts what it is asked for."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.title = "grains"
        self.config = "<View/>"
        self.exported: list[int] = []
        self.listed = 0

    def put(self, id: int, *annotations: dict[str, Any], minute: int = 0) -> None:
        self.tasks[id] = {
            "id": id,
            "data": {"image": f"/data/upload/1/{id}.png"},
            "updated_at": f"2026-11-23T10:{minute:02d}:00.000000Z",
            "annotations": list(annotations),
        }

    def project(self, id: int) -> dict[str, Any]:
        return {"id": id, "title": self.title, "label_config": self.config, "task_number": len(self.tasks)}

    def task_rows(self, id: int, changed_since: str = "") -> Iterator[dict[str, Any]]:
        for task in self.tasks.values():
            if task["updated_at"] <= changed_since:
                continue
            self.listed += 1
            cancelled = sum(bool(a.get("was_cancelled")) for a in task["annotations"])
            row = {name: value for name, value in task.items() if name != "annotations"}
            yield {
                **row,
                "total_annotations": len(task["annotations"]) - cancelled,
                "cancelled_annotations": cancelled,
                "is_labeled": len(task["annotations"]) > cancelled,
            }

    def export(self, id: int, task_ids: Sequence[int]) -> list[dict[str, Any]]:
        self.exported += task_ids
        return [self.tasks[i] for i in task_ids]


@pytest.fixture
def projects(tmp_path: Path) -> Projects:
    known = Projects(tmp_path)
    known.remember(1, title="", label_config="")
    return known


def look(projects: Projects, studio: FakeStudio) -> Any:
    return reconcile(projects, 1, studio, lambda: NOW)


def test_of_several_annotations_the_ground_truth_one_counts() -> None:
    chosen = counting_annotation([annotation(1, ground_truth=True), annotation(2), annotation(3)])
    assert chosen is not None and chosen["id"] == 1


def test_without_ground_truth_the_newest_submitted_one_counts() -> None:
    chosen = counting_annotation([annotation(2), annotation(3), annotation(1)])
    assert chosen is not None and chosen["id"] == 3


def test_a_skipped_annotation_never_counts_not_even_a_ground_truth_one() -> None:
    assert counting_annotation([annotation(1, was_cancelled=True, ground_truth=True)]) is None


def test_an_empty_annotation_counts_it_says_that_there_is_nothing() -> None:
    chosen = counting_annotation([annotation(1, result=[])])
    assert chosen is not None
    assert label_fingerprint(chosen) != label_fingerprint(None)


def test_a_label_is_the_same_label_whoever_saved_it_and_when() -> None:
    assert label_fingerprint(annotation(1)) == label_fingerprint(annotation(1, updated_at="later"))
    assert label_fingerprint(annotation(1)) != label_fingerprint(annotation(2))


def test_reconcile_pulls_everything_once_and_then_only_what_changed(projects: Projects) -> None:
    studio = FakeStudio()
    for id in (1, 2, 3):
        studio.put(id, annotation(id))
    studio.put(4)
    assert look(projects, studio).counts == Counts(tasks=4, labelled=3)
    assert studio.exported == [1, 2, 3]

    studio.exported.clear()
    assert not look(projects, studio).labels_changed
    assert studio.exported == []

    studio.put(2, annotation(7), minute=30)
    assert look(projects, studio).labels_changed
    assert studio.exported == [2]


def test_reconcile_sees_labels_and_tasks_that_went_away(projects: Projects) -> None:
    studio = FakeStudio()
    studio.put(1, annotation(1))
    studio.put(2)
    look(projects, studio)
    studio.put(1, minute=1)
    del studio.tasks[2]
    changes = look(projects, studio)
    assert (changes.counts, changes.removed, changes.labels_changed) == (Counts(tasks=1, labelled=0), 1, True)


def test_reconcile_lists_only_what_was_stamped_lately_unless_it_is_to_be_thorough(projects: Projects) -> None:
    studio = FakeStudio()
    for id in range(1, 11):
        studio.put(id, minute=id * 5)
    look(projects, studio)
    studio.listed = 0
    look(projects, studio)
    assert studio.listed == 1
    reconcile(projects, 1, studio, lambda: NOW, thorough=True)
    assert studio.listed == 11


def test_a_change_that_was_stamped_before_and_committed_after_our_last_look_is_found(
    projects: Projects,
) -> None:
    studio = FakeStudio()
    studio.put(1, minute=10)
    studio.put(2, minute=11)
    look(projects, studio)
    studio.put(1, annotation(1), minute=10)
    assert look(projects, studio).counts.labelled == 1


def test_reconcile_takes_over_title_and_label_config(projects: Projects) -> None:
    studio = FakeStudio()
    look(projects, studio)
    studio.title, studio.config = "pores", "<View><Image name='i' value='$image'/></View>"
    assert look(projects, studio).labels_changed
    assert projects.get(1).title == "pores"
    assert projects.get(1).label_config_xml == studio.config


def test_reconcile_tells_the_state_what_there_is(projects: Projects) -> None:
    studio = FakeStudio()
    studio.put(1, annotation(1))
    look(projects, studio)
    state = projects.get(1).state()
    assert (state.tasks, state.labelled, state.last_reconcile) == (1, 1, NOW)


def test_unpredicted_tasks_are_the_unlabelled_ones_without_this_version(tmp_path: Path) -> None:
    mirror = _filled(tmp_path / "tasks.sqlite")
    mirror.mark_predicted("v0002-bbbbbb", [2])
    mirror.mark_predicted("v0001-aaaaaa", [3])
    assert [t.id for t in mirror.unpredicted("v0002-bbbbbb", NOW)] == [3, 4]
    mirror.set_predicted("v0002-bbbbbb", [4])
    assert [t.id for t in mirror.unpredicted("v0002-bbbbbb", NOW)] == [2, 3]


def test_a_task_that_was_put_off_comes_back_in_its_time_or_when_it_changes(tmp_path: Path) -> None:
    mirror = _filled(tmp_path / "tasks.sqlite")
    version = "v0001-aaaaaa"
    mirror.put_off(2, version, LATER)
    mirror.put_off(3, version, LATER)
    assert [t.id for t in mirror.unpredicted(version, NOW)] == [4]
    assert mirror.count_unpredicted(version, LATER) == 3
    mirror.upsert([MirroredTask(3, "m2", {"image": "other.png"}, None)])
    assert [t.id for t in mirror.unpredicted(version, NOW)] == [3, 4]


def test_another_process_reads_while_a_writer_is_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "tasks.sqlite"
    mirror = _filled(path)
    program = (
        "import sys; from pathlib import Path; from srpu_backend.mirror import TaskMirror\n"
        "print(TaskMirror(Path(sys.argv[1])).counts().labelled)"
    )

    def slowly() -> Iterator[MirroredTask]:
        yield MirroredTask(9, "m", {}, annotation(9), "nine")
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "1"

    mirror.upsert(slowly())
    assert mirror.counts().labelled == 2


def _filled(path: Path) -> TaskMirror:
    mirror = TaskMirror(path)
    mirror.upsert([MirroredTask(1, "m", {}, annotation(1), "one")])
    mirror.upsert(MirroredTask(id, "m", {"image": f"{id}.png"}, None) for id in (2, 3, 4))
    return mirror
