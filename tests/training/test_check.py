"""What is found wrong with a dataset before it is learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from micrograph_folders import CLASSES, SIZE, blocks, texture, write_image, write_labelled

from training.data.check import CheckSummary, check_manifests
from training.data.findings import Finding, Findings
from training.data.intensity import judge_frame
from training.data.manifest import Part, Sample
from training.data.manifest_stream import write_samples

pytestmark = pytest.mark.fast


def samples(folder: Path, parts: dict[str, Part]) -> list[Sample]:
    return [
        Sample(key=n, image=folder / f"images/{n}.png", mask=folder / f"masks/{n}.png", group=n, part=part)
        for n, part in parts.items()
    ]


def checked(folder: Path, listed: list[Sample]) -> CheckSummary:
    write_samples(folder / "dataset.json", CLASSES, listed)
    return check_manifests([folder / "dataset.json"], Findings())


def test_a_sound_dataset_has_no_findings(tmp_path: Path) -> None:
    write_labelled(tmp_path, ["a", "b", "c"])
    found = checked(tmp_path, samples(tmp_path, {"a": "train", "b": "holdout", "c": "test"}))
    assert (found.images, found.masks, found.errors, found.warnings) == (3, 3, 0, 0)


def test_a_torn_group_leaks(tmp_path: Path) -> None:
    write_labelled(tmp_path, ["a", "b", "c"])
    listed = samples(tmp_path, {"a": "train", "b": "test", "c": "pool"})
    torn = [sample.model_copy(update={"group": "one"}) for sample in listed]
    assert checked(tmp_path, torn).counts == {"leakage": 1}
    pooled = [torn[0], torn[2]]
    assert checked(tmp_path, pooled).counts == {}


def test_a_near_duplicate_in_two_parts_leaks_whatever_its_group(tmp_path: Path) -> None:
    write_labelled(tmp_path, ["a", "b", "c"])
    write_image(tmp_path / "images/b.png", (texture([ord("a")]) * 0.8).astype(np.uint8))
    found = checked(tmp_path, samples(tmp_path, {"a": "train", "b": "test", "c": "test"}))
    assert found.counts == {"leakage": 1}
    assert "a (train), b (test)" in found.findings[0].message
    assert checked(tmp_path, samples(tmp_path, {"a": "train", "b": "train", "c": "test"})).counts == {}


def test_parts_in_several_files_are_one_dataset(tmp_path: Path) -> None:
    write_labelled(tmp_path, ["a", "b"])
    for part, name in (("train", "a"), ("test", "b")):
        (one,) = samples(tmp_path, {name: part})  # type: ignore[dict-item]
        write_samples(tmp_path / f"{part}.json", CLASSES, [one.model_copy(update={"group": "g"})])
    write_samples(tmp_path / "other.json", CLASSES[:2], [])
    found = check_manifests([tmp_path / f"{name}.json" for name in ("train", "test", "other")], Findings())
    assert found.counts == {"leakage": 1, "classes": 1}


@pytest.mark.parametrize(
    ("mask", "kind", "severity"),
    [
        (blocks((SIZE[0], 60)), "size", "error"),
        (blocks(indices=(0, 1, 2, 9)), "unknown-color", "error"),
        (blocks(indices=(255,)), "empty-mask", "error"),
        (blocks(indices=(0,)), "empty-mask", "warning"),
    ],
)
def test_bad_masks_are_found(tmp_path: Path, mask: np.ndarray, kind: str, severity: str) -> None:
    write_labelled(tmp_path, ["a", "b"])
    write_image(tmp_path / "masks/a.png", mask)
    (finding,) = checked(tmp_path, samples(tmp_path, {"a": "train", "b": "train"})).findings
    assert (finding.kind, finding.severity) == (kind, severity)
    assert finding.where.endswith("masks/a.png")
    assert finding.fix
    if kind == "unknown-color":
        assert "768 px have the value 9" in finding.message
        assert finding.places == ((48, 0), (49, 0), (50, 0))


def test_unreadable_files_and_absent_classes_are_found(tmp_path: Path) -> None:
    write_labelled(tmp_path, ["a", "b", "c"], (0, 1))
    (tmp_path / "images/a.png").write_bytes(b"text")
    (tmp_path / "masks/b.png").unlink()
    found = checked(tmp_path, samples(tmp_path, {"a": "train", "b": "train", "c": "train"}))
    assert found.counts == {"unreadable-image": 1, "unreadable-mask": 1, "absent-class": 1}
    assert (found.errors, found.warnings) == (2, 1)


def saturated() -> np.ndarray:
    image = texture(1)
    image[:20] = 255
    return image


def twelve_bit() -> np.ndarray:
    return np.minimum(texture(1).astype(np.uint16) * 20, 2500)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (np.zeros(SIZE, np.uint8), "black-frame"),
        (np.full(SIZE, 254, np.uint8), "white-frame"),
        (np.full(SIZE, 30_000, np.uint16), "flat-frame"),
        (saturated(), "saturated-frame"),
        (twelve_bit(), "saturated-frame"),
        (np.where(texture(1) < 140, 0, texture(1)), "clipped-frame"),
        (texture(1), None),
        (texture(1).astype(np.uint16), None),
        ((texture(1) // 8 + 100).astype(np.uint8), None),
    ],
)
def test_frames_without_information_are_found(image: np.ndarray, kind: str | None) -> None:
    finding = judge_frame(image, "a.png")
    assert (None if finding is None else finding.kind) == kind


def test_findings_are_bounded_and_counted() -> None:
    findings, more = Findings(kept_of_a_kind=2), Findings(kept_of_a_kind=2)
    for collected in (findings, more):
        for number in range(5):
            collected.add(Finding(kind="size", severity="error", where=f"{number}", message="m.", fix="f."))
    findings.add(Finding(kind="x", severity="warning", where="w", message="m.", fix="f.", places=((1, 2),)))
    findings.extend(more)
    assert findings.counts == {"size": 10, "x": 1}
    assert (findings.count("error"), findings.count("warning")) == (10, 1)
    assert findings.lines() == [
        "error: 0: m. f.",
        "error: 1: m. f.",
        "warning: w: m. At (x, y) (1, 2). f.",
        "… and 8 more findings of the kind size.",
    ]


@pytest.mark.parametrize("name", ["nasa_super", "dtsegnet", "axon_sem", "nanocomposite", "tem_sintering"])
def test_real_sets_are_sound(tmp_path: Path, shared_data: Path, name: str) -> None:
    names = [path.stem for path in sorted((shared_data / name / "images").iterdir())]
    write_samples(tmp_path / "m.json", CLASSES, samples(shared_data / name, dict.fromkeys(names, "train")))
    found = check_manifests([tmp_path / "m.json"], Findings())
    assert found.errors == 0
    assert {f.kind for f in found.findings} <= {"absent-class"}
