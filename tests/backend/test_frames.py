"""Neighbouring frames are found among all tasks, and serving sees the very stack that training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_zoo.registry import Registry
from srpu_backend.annotator import Annotator
from srpu_backend.frames import frames_around, place_of
from srpu_backend.images import ImageUnavailable
from srpu_backend.mirror import MirroredTask, label_fingerprint
from srpu_backend.projects import Connection, Project, Projects
from srpu_backend.regions import results_from_mask
from srpu_backend.settings import Settings
from srpu_backend.snapshot import build
from srpu_backend.training_settings import settings_in, snapshot_depth, training_overrides
from training.data.manifest import Manifest
from training.data.micrograph import read_micrograph
from training.data.samples import read_stack

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" model_input_depth="3">
    <Label value="particle"/>
  </BrushLabels>
</View>"""


class Folder:
    """An image store of a folder; what is not there is unavailable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path:
        self.asked.append(reference)
        path = self.root / reference.rsplit("/", 1)[-1]
        if not path.exists():
            raise ImageUnavailable(f"{reference} cannot be had.")
        return path

    def load(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Any:
        return read_micrograph(self.fetch(reference, connection, task_id))


@pytest.fixture
def images(tmp_path: Path) -> Folder:
    (tmp_path / "images").mkdir()
    return Folder(tmp_path / "images")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path / "models").remember(1, label_config=CONFIG)


def add(project: Project, images: Folder, id: int, name: str, size: int = 72, **data: Any) -> dict[str, Any]:
    """A task with a disc on its image; even ones are labelled."""
    grey = np.full((size, size), 40, np.uint8)
    cv2.circle(grey, (size // 2, 20 + id), 14, 200, -1)
    cv2.imwrite(
        str(images.root / name), grey + np.random.default_rng(id).integers(0, 30, grey.shape, "uint8")
    )
    task = {"id": id, "data": {"image": f"/data/upload/1/{name}", **data}}
    annotation = None
    if id % 2 == 0:
        annotation = {"result": results_from_mask((grey > 100).astype(np.uint8), project.label_config)}
    project.mirror.upsert([MirroredTask(id, "m", task["data"], annotation, label_fingerprint(annotation))])
    return task


def around(project: Project, images: Folder, task: dict[str, Any], depth: int = 3) -> list[str]:
    image = images.fetch(task["data"]["image"], None)
    return [path.name for path in frames_around(project, images, task["id"], task["data"], image, depth)]


@pytest.mark.fast
class TestNeighbours:
    def test_stand_before_and_after_in_the_order_of_frames(self, project: Project, images: Folder) -> None:
        tasks = {n: add(project, images, 10 - n, f"wire-{n:02d}.png") for n in (1, 2, 4, 9)}
        add(project, images, 20, "foil-3.png")
        assert around(project, images, tasks[2]) == ["wire-01.png", "wire-02.png", "wire-04.png"]
        assert around(project, images, tasks[1]) == ["wire-01.png", "wire-01.png", "wire-02.png"]
        assert around(project, images, tasks[9], 5) == [f"wire-{n:02d}.png" for n in (2, 4, 9, 9, 9)]

    def test_an_image_without_sequence_has_none(self, project: Project, images: Folder) -> None:
        assert around(project, images, add(project, images, 1, "single.png")) == []

    def test_depth_one_asks_nobody(self, project: Project, images: Folder) -> None:
        task = add(project, images, 1, "wire-1.png")
        assert around(project, images, task, 1) == []
        assert len(images.asked) == 1

    def test_the_task_data_go_before_the_name(self, project: Project, images: Folder) -> None:
        tasks = [add(project, images, n, f"x{n}.png", sequence="s", frame=30 - n) for n in (1, 2, 3)]
        assert around(project, images, tasks[1]) == ["x3.png", "x2.png", "x1.png"]

    def test_the_next_one_stands_in_for_one_that_is_gone(self, project: Project, images: Folder) -> None:
        tasks = [add(project, images, n, f"wire-{n}.png") for n in (1, 2, 3)]
        (images.root / "wire-2.png").unlink()
        assert around(project, images, tasks[2]) == ["wire-1.png", "wire-3.png", "wire-3.png"]

    def test_new_tasks_are_seen_and_removed_ones_are_not(self, project: Project, images: Folder) -> None:
        middle = add(project, images, 2, "wire-2.png")
        assert around(project, images, middle) == ["wire-2.png"] * 3
        add(project, images, 3, "wire-3.png")
        assert around(project, images, middle)[2] == "wire-3.png"
        project.mirror.remove([3])
        assert around(project, images, middle)[2] == "wire-2.png"

    def test_a_task_the_mirror_does_not_know_finds_its_place(self, project: Project, images: Folder) -> None:
        add(project, images, 1, "wire-1.png")
        late = add(project, images, 3, "wire-3.png")
        project.mirror.remove([3])
        assert around(project, images, late) == ["wire-1.png", "wire-3.png", "wire-3.png"]

    def test_another_image_field_places_all_anew(
        self, project: Project, tmp_path: Path, images: Folder
    ) -> None:
        first = add(project, images, 1, "wire-1.png", other="/data/upload/1/foil-1.png")
        add(project, images, 2, "wire-2.png", other="/data/upload/1/bar-1.png")
        assert around(project, images, first)[2] == "wire-2.png"
        changed = Projects(tmp_path / "models").remember(1, label_config=CONFIG.replace("$image", "$other"))
        assert set(around(changed, images, first)) == {"wire-1.png"}

    def test_folders_tell_sequences_of_one_name_apart(self) -> None:
        places = [
            place_of({"image": f"/data/local-files/?d={f}/a-1.png"}, "image") for f in ("one", "other/x")
        ]
        assert [p.folder for p in places if p] == ["one", "other/x"]


@pytest.mark.fast
def test_the_lookup_reads_no_more_than_it_needs(project: Project) -> None:
    """At 10 000 tasks the plan must be a search in the index, both ways, and nothing sorted."""
    import sqlite3

    project.mirror.counts()
    query = (
        "explain query plan select id, data from places join tasks on id = task where sequence = 's' and"
        " folder = 'f' and (frame, name, task) < (5, 'n', 3)"
        " order by frame desc, name desc, task desc limit 5"
    )
    with sqlite3.connect(project.root / "tasks.sqlite") as connection:
        plan = " ".join(row[3] for row in connection.execute(query))
    assert "places_in_order" in plan
    assert "TEMP B-TREE" not in plan
    assert "SCAN" not in plan


@pytest.mark.fast
def test_attributes_of_the_label_config_set_the_training(project: Project, tmp_path: Path) -> None:
    assert settings_in(project.label_config.parameters) == {"input_depth": 3}
    assert settings_in({"model_answer": "true", "model_minutes": "2.5"}) == {"minutes": 2.5}
    settings = Settings(model_dir=tmp_path, preset="test", training_overrides='{"input_depth": 1}')
    assert snapshot_depth(project, settings, {}) == 3
    asked = Projects(tmp_path / "models").remember(1, parameters={"input_depth": 5})
    assert snapshot_depth(asked, settings, {}) == 5


@pytest.mark.fast
def test_the_holdout_never_steers_a_training_of_the_loop(project: Project, tmp_path: Path) -> None:
    settings = Settings(model_dir=tmp_path, training_overrides='{"validation": "holdout", "minutes": 3}')
    assert training_overrides(project, settings) == {"input_depth": 3, "minutes": 3, "validation": "none"}


@pytest.mark.fast
def test_a_snapshot_of_depth_one_has_no_frames(project: Project, images: Folder) -> None:
    for id in (2, 4):
        add(project, images, id, f"wire-{id}.png")
    plain, deep = build(project, images, 0.0), build(project, images, 0.0, input_depth=3)
    assert all(not sample.frames for sample in Manifest.read(plain.manifest).samples)
    assert plain.hash != deep.hash


@pytest.mark.slow
def test_serving_sees_the_stack_that_training_saw(project: Project, images: Folder, tmp_path: Path) -> None:
    from training.config import load_config
    from training.supervised import train

    tasks = {n: add(project, images, n, f"wire-{n}.png") for n in range(1, 7)}
    tasks |= {n: add(project, images, n, f"foil-{n}.png") for n in range(8, 11)}
    (images.root / "wire-3.png").write_bytes((images.root / "wire-3.png").read_bytes()[:90])  # cut short
    snapshot = build(project, images, 0.0, input_depth=3)
    manifest = Manifest.read(snapshot.manifest)
    card = train(manifest, load_config("test", {"input_depth": 3, "threads": 1}), tmp_path / "run")
    assert card.spec.input_depth == 3
    registry: Registry = project.registry
    registry.publish(tmp_path / "run", card.model_copy(update={"version": "v0001-abcdef"}))
    registry.promote("v0001-abcdef", "test")
    annotator = Annotator(project, images)
    for sample in manifest.samples:
        task = tasks[int(sample.key.removeprefix("task-"))]
        learnt, served = read_stack(sample, 3), annotator.stack(task, 3)
        assert (learnt.dtype, learnt.shape) == (served.dtype, served.shape)
        assert learnt.tobytes() == served.tobytes()
    first = {sample.key: read_stack(sample, 3) for sample in manifest.samples}["task-4"]
    assert np.array_equal(first[0], first[1]), "frame 3 cannot be read: the image stands in"
    assert not np.array_equal(first[1], first[2])
    assert annotator.annotate(tasks[5]).model_version == "v0001-abcdef"
