"""Label Studio's exports are masks like any others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from micrograph_folders import SIZE, blocks, texture, write_classes, write_image, write_labelled

from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import results_from_mask
from training.__main__ import main
from training.data.classes_file import ClassList, read_classes
from training.data.findings import Findings
from training.data.index import LABELED_NAME, UNLABELED_NAME, IndexOptions, build_index
from training.data.label_studio_json import BadExport, counting_annotation, read_tasks
from training.data.manifest import IGNORE_INDEX, Manifest
from training.data.masks import read_mask
from training.data.scan import Folders

pytestmark = pytest.mark.fast
HEIGHT, WIDTH = SIZE
MASK = blocks(indices=(0, 1, 2))


def config(tag: str) -> LabelConfig:
    labels = "".join(f'<Label value="{name}"/>' for name in ("pore", "crack"))
    return LabelConfig.parse(
        f'<View><Image name="image" value="$image"/><{tag} name="m" toName="image">{labels}</{tag}></View>'
    )


def drawn(mask: np.ndarray = MASK, tag: str = "BrushLabels") -> list[dict[str, Any]]:
    return results_from_mask(mask, config(tag))


def task(
    id: int, reference: str, *annotations: list[dict[str, Any]] | dict[str, Any], **data: Any
) -> dict[str, Any]:
    listed = [a if isinstance(a, dict) else {"id": n, "result": a} for n, a in enumerate(annotations)]
    return {"id": id, "data": {"image": reference, **data}, "annotations": listed}


class Exported:
    """An index of images `a`, `b`, … and one export."""

    def __init__(
        self, folder: Path, export: object, classes: ClassList | None = None, **options: Any
    ) -> None:
        for name in ("a", "b", "c d"):
            write_image(folder / "raw" / f"{name}.png", texture([ord(letter) for letter in name]))
        text = export if isinstance(export, str) else json.dumps(export)
        (folder / "export.json").write_text(text, encoding="utf-8")
        self.findings = Findings()
        folders = Folders(folder / "raw", options.pop("labeled", folder / "export.json"))
        self.summary = build_index(folders, classes, folder / "out", IndexOptions(**options), self.findings)
        self.manifest = Manifest.read(folder / "out" / LABELED_NAME)
        self.names = [info.name for info in self.manifest.classes]
        self.pool = {sample.key for sample in Manifest.read(folder / "out" / UNLABELED_NAME).samples}

    def mask(self, key: str) -> np.ndarray:
        path = next(sample.mask for sample in self.manifest.samples if sample.key == key)
        assert path is not None
        return read_mask(path)


@pytest.mark.parametrize("tag", ["BrushLabels", "BitmaskLabels", "PolygonLabels"])
def test_what_we_write_comes_back(tmp_path: Path, tag: str) -> None:
    found = Exported(tmp_path, [task(1, "/data/upload/3/0a1b2c3d-a.png", drawn(tag=tag))])
    assert found.names == ["background", "pore", "crack"]
    assert found.manifest.classes[0].implicit
    assert np.array_equal(found.mask("a"), MASK)
    assert found.pool == {"b", "c d"}
    assert found.summary.masks_by_format == {"json": 1}
    assert not found.findings.kept


def test_brushes_of_the_sdk_are_read(tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    value = {"format": "rle", "rle": brush.mask2rle((MASK == 1).astype(np.uint8) * 255)}
    result = {"id": "r", "type": "brushlabels", "value": {**value, "brushlabels": ["pore"]}}
    found = Exported(tmp_path, [task(1, "a.png", [result])])
    assert np.array_equal(found.mask("a"), MASK == 1)


@pytest.mark.parametrize(
    ("type", "value", "pixels"),
    [
        ("rectanglelabels", {"x": 0, "y": 0, "width": 50, "height": 100}, HEIGHT * WIDTH // 2),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25}, np.pi * HEIGHT * WIDTH / 16),
    ],
)
def test_boxes_and_ellipses_are_filled(
    tmp_path: Path, type: str, value: dict[str, Any], pixels: float
) -> None:
    result = {"id": "r", "type": type, "value": {**value, type: ["pore"]}}
    found = Exported(tmp_path, [task(1, "a.png", [result])])
    assert np.count_nonzero(found.mask("a") == 1) == pytest.approx(pixels, rel=0.03)


@pytest.mark.parametrize(
    "reference",
    [
        "c%20d.png?x=1",
        "/data/local-files/?d=sem/c%20d.png",
        "/data/upload/1/ab12cd34-c_d.png",
        "s3://bucket/c%20d.png",
        "/data/upload/1/ab12cd34-c%20d.png",
    ],
)
def test_images_are_found_by_the_stem_of_the_reference(tmp_path: Path, reference: str) -> None:
    reference = f"http://host/{reference}" if "x=1" in reference else reference
    assert np.array_equal(Exported(tmp_path, [task(1, reference, drawn())]).mask("c d"), MASK)


def test_the_annotation_that_counts_is_the_snapshots() -> None:
    old, new = {"id": 1, "result": [1], "updated_at": "2024"}, {"id": 2, "result": [2], "updated_at": "2025"}
    skipped = {"id": 3, "result": [3], "updated_at": "2026", "was_cancelled": True}
    truth = {"id": 0, "result": [0], "updated_at": "2023", "ground_truth": True}
    assert counting_annotation([new, old, skipped]) == new
    assert counting_annotation([old, truth, new]) == truth
    assert counting_annotation([skipped]) is None
    assert counting_annotation([7, None, {"id": "x", "result": []}, {"id": 2, "result": [2]}]) is not None


def test_skipped_tasks_are_of_the_pool(tmp_path: Path) -> None:
    skipped = {"id": 1, "result": drawn(), "was_cancelled": True}
    found = Exported(tmp_path, [task(1, "a.png", skipped), task(2, "b.png", drawn())])
    assert found.pool == {"a", "c d"}


class TestClasses:
    def test_come_from_the_file_where_there_is_one(self, tmp_path: Path) -> None:
        classes = read_classes(write_classes(tmp_path / "classes.json"))  # matrix, pore, crack
        found = Exported(tmp_path, [task(1, "a.png", drawn())], classes)
        expected = np.where(MASK == 0, IGNORE_INDEX, MASK)  # nobody said that the rest is matrix
        assert np.array_equal(found.mask("a"), expected)

    def test_unknown_labels_are_findings_and_their_pixels_ignored(self, tmp_path: Path) -> None:
        (tmp_path / "classes.json").write_text('["background", "pore"]')
        found = Exported(tmp_path, [task(1, "a.png", drawn())], read_classes(tmp_path / "classes.json"))
        assert np.array_equal(found.mask("a"), np.where(MASK == 2, IGNORE_INDEX, MASK))
        (finding,) = found.findings.kept
        assert "has the label 'crack', which the list of classes does not have" in finding.message
        assert "task 1" in finding.where

    def test_a_background_that_is_drawn_is_not_assumed(self, tmp_path: Path) -> None:
        box = {"x": 0, "y": 0, "width": 25, "height": 100, "rectanglelabels": ["Background"]}
        results = [
            {"id": "b", "type": "rectanglelabels", "value": box},
            *drawn(np.where(MASK == 1, 1, 0).astype(np.uint8)),
        ]
        found = Exported(tmp_path, [task(1, "a.png", results)])
        assert found.names == ["Background", "pore"]
        mask = found.mask("a")
        assert (mask[:, : WIDTH // 4] == 0).all()
        assert (mask[MASK == 2] == IGNORE_INDEX).all()

    def test_masks_and_exports_lie_side_by_side(self, tmp_path: Path) -> None:
        write_labelled(tmp_path / "lab", ["x"])
        write_image(tmp_path / "lab/images/y.png", texture(7))
        (tmp_path / "lab/masks/export.json").write_text(json.dumps([task(1, "y.png", drawn())]))
        (tmp_path / "lab/splits.json").write_text('{"few": ["x"]}')
        classes = read_classes(tmp_path / "lab/classes.json")
        found = Exported(tmp_path, [], classes, labeled=tmp_path / "lab")
        assert found.summary.masks_by_format == {"index": 1, "json": 1}


class TestWhatIsWrong:
    def test_regions_that_cannot_be_drawn(self, tmp_path: Path) -> None:
        good = drawn(np.where(MASK == 1, 1, 0).astype(np.uint8))
        other_size = [{**drawn(np.ones((8, 8), np.uint8))[0], "id": "small"}]
        huge = [{**good[0], "id": "huge", "value": {**good[0]["value"], "rle": [255] * 10**6}}]
        found = Exported(
            tmp_path,
            [
                task(1, "a.png", [*good, *other_size, *huge, {"type": "nonsense"}, None, 7]),
                task(2, "b.png", "no list"),
                task(3, "nowhere.png", good),
                {"id": 4, "data": None, "annotations": [{"result": good}]},
            ],
        )
        mask = found.mask("a")
        assert (mask[MASK == 1] == 1).all()
        assert (mask[MASK == 0] == IGNORE_INDEX).all()
        assert found.findings.counts == {"region": 5, "unpaired-mask": 2, "unreadable-mask": 1}
        assert found.pool == {"b", "c d"}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{}", "no list of tasks"),
            ("", "no list of tasks"),
            ("[1, 2]", "Entry 1"),
            ("[" + "[" * 100_000, "nested deeper"),
            ('[{"id": 1, "image": "a.png"}]', "JSON-MIN"),
            ('[{"id": 1, "annotations": [', "damaged or cut short"),
        ],
    )
    def test_a_file_that_is_no_export_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(BadExport, match=said):
            Exported(tmp_path, text)

    def test_in_a_folder_it_is_a_finding(self, tmp_path: Path) -> None:
        write_labelled(tmp_path / "lab", ["x"])
        (tmp_path / "lab/masks/export.json").write_text('[{"id": 1, "annotations": [')
        classes = read_classes(tmp_path / "lab/classes.json")
        found = Exported(tmp_path, [], classes, labeled=tmp_path / "lab")
        assert found.findings.counts == {"unreadable-export": 1}
        assert found.summary.labeled == 1

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_bytes(b"[\xff\xfe")
        with pytest.raises(BadExport):
            list(read_tasks(tmp_path / "x.json"))


def test_a_task_larger_than_the_piece_that_is_read_at_once(tmp_path: Path) -> None:
    tasks = [task(n, "a.png", [{"id": "r", "text": "é" * 300_000}]) for n in range(3)]
    (tmp_path / "x.json").write_text(json.dumps(tasks, indent=2, ensure_ascii=False), encoding="utf-8")
    assert [t.name for t in read_tasks(tmp_path / "x.json")] == ["task 0", "task 1", "task 2"]


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "raw/a.png", texture(1))
    (tmp_path / "export.json").write_text(json.dumps([task(1, "a.png", drawn())]))
    options = ["--labeled", str(tmp_path / "export.json"), "--out", str(tmp_path / "out")]
    assert main(["index", "--raw", str(tmp_path / "raw"), *options]) == 0
    assert "1 labelled images (masks: 1 json)" in capsys.readouterr().out
    (tmp_path / "raw/a.png").write_bytes(b"no image")
    assert main(["index", "--raw", str(tmp_path / "raw"), *options]) == 2
    assert "nothing to index" in capsys.readouterr().err
