"""A snapshot holds every label that can be read, is named by its content, and never changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from srpu_backend.images import ImageUnavailable
from srpu_backend.mirror import MirroredTask, label_fingerprint
from srpu_backend.projects import Connection, Project, Projects
from srpu_backend.snapshot import NothingToLearn, SnapshotResult, build
from training.data.manifest import Manifest
from training.data.masks import read_mask

pytestmark = pytest.mark.fast

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image">
    <Label value="matrix"/>
    <Label value="pore"/>
  </RectangleLabels>
</View>"""
WIDTH, HEIGHT = 40, 20


class Folder:
    """An image store of a few files; what is not there is unavailable."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []

    def add(self, name: str, grey: int = 100) -> None:
        cv2.imwrite(str(self.root / name), np.full((HEIGHT, WIDTH), grey, np.uint8))

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path:
        self.fetched.append(reference)
        path = self.root / reference.rsplit("/", 1)[-1]
        if not path.exists():
            raise ImageUnavailable(f"{reference} cannot be had.")
        return path


@pytest.fixture
def images(tmp_path: Path) -> Folder:
    (tmp_path / "images").mkdir()
    return Folder(tmp_path / "images")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path / "models").remember(1, label_config=CONFIG)


def box(label: str, x: float, width: float) -> dict[str, Any]:
    """A box of full height; `x` and `width` in percent."""
    value = {"x": x, "y": 0, "width": width, "height": 100, "rotation": 0, "rectanglelabels": [label]}
    return {
        "id": f"{label}{x}",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": value,
    }


BOXES = (box("matrix", 0, 100), box("pore", 50, 50))


def label(project: Project, images: Folder, id: int, *results: dict[str, Any], **data: Any) -> None:
    name = f"{id:08x}-spec{id}.png"
    images.add(name, grey=id)
    annotation = {"id": id, "result": list(results or BOXES)}
    task = MirroredTask(
        id, "m", {"image": f"/data/upload/1/{name}", **data}, annotation, label_fingerprint(annotation)
    )
    project.mirror.upsert([task])


def snapshot(project: Project, images: Folder, share: float = 0.25) -> SnapshotResult:
    return build(project, images, share)


def test_images_masks_and_classes_come_together(project: Project, images: Folder) -> None:
    label(project, images, 1)
    label(project, images, 2)
    result = snapshot(project, images)
    manifest = Manifest.read(result.manifest)
    names = [info.name for info in manifest.classes]
    assert [s.key for s in manifest.samples] == ["task-1", "task-2"]
    assert manifest.samples[0].mask is not None
    mask = read_mask(manifest.samples[0].mask)
    assert mask.shape == (HEIGHT, WIDTH)
    assert (mask[:, : WIDTH // 2] == names.index("matrix")).all()
    assert (mask[:, WIDTH // 2 :] == names.index("pore")).all()
    assert manifest.samples[0].image.resolve() == (images.root / "00000001-spec1.png").resolve()


def test_the_same_labels_give_the_same_folder(project: Project, images: Folder) -> None:
    for id in (1, 2):
        label(project, images, id)
    first = snapshot(project, images)
    content = first.manifest.read_bytes()
    second = snapshot(project, images)
    assert (second.manifest, second.hash) == (first.manifest, first.hash)
    label(project, images, 2, box("pore", 0, 100))
    third = snapshot(project, images)
    assert third.manifest != first.manifest
    assert first.manifest.read_bytes() == content


def test_a_moved_model_dir_still_finds_its_files(project: Project, images: Folder, tmp_path: Path) -> None:
    label(project, images, 1)
    label(project, images, 2)
    relative = snapshot(project, images).manifest.relative_to(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("models", "images"):
        (tmp_path / name).rename(moved / name)
    manifest = Manifest.read(moved / relative)
    assert all(s.image.exists() and s.mask is not None and s.mask.exists() for s in manifest.samples)


def test_a_task_without_an_image_is_left_out_and_named(project: Project, images: Folder) -> None:
    for id in (1, 2, 3):
        label(project, images, id)
    (images.root / "00000002-spec2.png").unlink()
    result = snapshot(project, images)
    assert [s.key for s in Manifest.read(result.manifest).samples] == ["task-1", "task-3"]
    assert len(result.problems) == 1
    assert result.problems[0].startswith("Task 2 is left out:")


def test_a_file_that_is_no_image_is_left_out(project: Project, images: Folder) -> None:
    for id in (1, 2):
        label(project, images, id)
    (images.root / "00000001-spec1.png").write_text("no image")
    result = snapshot(project, images)
    assert [s.key for s in Manifest.read(result.manifest).samples] == ["task-2"]
    assert "Task 1" in result.problems[0]


def test_when_nothing_can_be_read_it_says_why(project: Project, images: Folder) -> None:
    label(project, images, 1)
    (images.root / "00000001-spec1.png").unlink()
    with pytest.raises(NothingToLearn, match="Task 1 is left out"):
        snapshot(project, images)


def test_the_original_is_learnt_from_where_there_is_one(project: Project, images: Folder) -> None:
    images.add("raw.tif", grey=7)
    label(project, images, 1, original="raw.tif")
    label(project, images, 2)
    samples = Manifest.read(snapshot(project, images).manifest).samples
    assert samples[0].image.name == "raw.tif"


def test_a_sequence_is_one_group_and_uploads_are_not(project: Project, images: Folder) -> None:
    label(project, images, 1, sequence="4.2V", frame=1)
    label(project, images, 2, sequence="4.2V", frame=2)
    label(project, images, 3)
    samples = Manifest.read(snapshot(project, images).manifest).samples
    assert [(s.group, s.sequence, s.frame) for s in samples[:2]] == [("4.2V", "4.2V", 1), ("4.2V", "4.2V", 2)]
    assert "00000003" not in samples[2].group


def test_a_sequence_is_never_torn_and_once_in_the_holdout_always_in(project: Project, images: Folder) -> None:
    for id in range(1, 13):
        label(project, images, id, sequence=f"s{id % 4}", frame=id)
    before = _parts(snapshot(project, images, share=0.4))
    assert set(before.values()) == {"train", "holdout"}
    for id in range(13, 25):
        label(project, images, id, sequence=f"s{id % 8}", frame=id)
    after = _parts(snapshot(project, images, share=0.4))
    assert {g for g, part in before.items() if part == "holdout"} <= {
        g for g, part in after.items() if part == "holdout"
    }


def test_no_mask_is_decoded_twice(project: Project, images: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from srpu_backend import snapshot as module

    label(project, images, 1)
    label(project, images, 2)
    snapshot(project, images)
    decoded: list[Any] = []
    original = module.masks_from_results
    monkeypatch.setattr(module, "masks_from_results", lambda *a: decoded.append(a) or original(*a))
    snapshot(project, images)
    assert decoded == []
    label(project, images, 2, box("pore", 0, 100))
    snapshot(project, images)
    assert len(decoded) == 1


def _parts(result: SnapshotResult) -> dict[str, str]:
    parts: dict[str, str] = {}
    for sample in Manifest.read(result.manifest).samples:
        assert parts.setdefault(sample.group, sample.part) == sample.part
    return parts
