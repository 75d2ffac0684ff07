"""Which images train, validate and test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micrograph_folders import CLASSES, write_labelled

from training.data.classes_file import ClassList
from training.data.findings import Findings
from training.data.index import LABELED_NAME, IndexOptions, build_index
from training.data.manifest import Manifest
from training.data.scan import Folders
from training.data.split import (
    BadSplit,
    GroupContent,
    SplitOptions,
    choose_parts,
    read_test_keys,
    split_index,
)

pytestmark = pytest.mark.fast


def groups(*images: int) -> list[GroupContent]:
    return [GroupContent(f"g{n}", count, (0.7 * count, 0.3 * count)) for n, count in enumerate(images)]


def dealt(contents: list[GroupContent], parts: dict[str, str]) -> dict[str, int]:
    counts = {"train": 0, "holdout": 0, "test": 0}
    for group in contents:
        counts[parts[group.name]] += group.images
    return counts


def test_shares_are_met_where_they_can_be() -> None:
    contents = groups(*[1] * 20)
    assert dealt(contents, choose_parts(contents, 0.2, 0.1, 0)) == {"train": 14, "holdout": 4, "test": 2}


def test_a_large_group_trains() -> None:
    contents = groups(30, 1, 2, 1, 3, 1)
    parts = choose_parts(contents, 0.15, 0.15, 0)
    assert parts["g0"] == "train"
    assert set(parts.values()) == {"train", "holdout", "test"}


@pytest.mark.parametrize(
    ("count", "expected"), [(1, {"train"}), (2, {"train", "holdout"}), (3, {"train", "holdout", "test"})]
)
def test_few_groups_fill_training_first_then_validation(count: int, expected: set[str]) -> None:
    assert set(choose_parts(groups(*[2] * count), 0.15, 0.15, 0).values()) == expected


def test_a_rare_class_is_in_every_part_or_at_least_in_training() -> None:
    contents = [GroupContent(f"g{n}", 1, (0.9, 0.1 if n in (3, 7, 11) else 0.0)) for n in range(18)]
    assert {choose_parts(contents, 0.2, 0.2, seed)[f"g{n}"] for seed in (0, 1) for n in (3, 7, 11)} == {
        "train", "holdout", "test",
    }  # fmt: skip
    single = [GroupContent(f"g{n}", 1, (0.9, 0.1 if n == 3 else 0.0)) for n in range(10)]
    assert all(choose_parts(single, 0.3, 0.3, seed)["g3"] == "train" for seed in range(20))


@given(
    images=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    shares=st.tuples(st.floats(0, 0.45), st.floats(0, 0.45)),
    seed=st.integers(0, 5),
)
@settings(max_examples=30, deadline=None)
def test_any_groups_are_dealt_the_same_for_one_seed_and_something_trains(images, shares, seed):
    contents = groups(*images)
    parts = choose_parts(contents, *shares, seed)
    assert parts == choose_parts(contents[::-1], *shares, seed)
    assert "train" in parts.values()
    assert parts.keys() == {group.name for group in contents}


def test_another_seed_gives_another_split() -> None:
    contents = groups(*[1] * 30)
    assert choose_parts(contents, 0.2, 0.2, 0) != choose_parts(contents, 0.2, 0.2, 1)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    names = [f"{sequence}-{frame}" for sequence in "abcdefgh" for frame in (1, 2)]
    write_labelled(tmp_path / "lab", names)
    build_index(Folders(labeled=tmp_path / "lab"), ClassList(CLASSES), tmp_path, IndexOptions(), Findings())
    return tmp_path / LABELED_NAME


def test_groups_are_never_torn_and_the_parts_make_the_whole(index: Path, tmp_path: Path) -> None:
    summary = split_index(index, tmp_path / "out", SplitOptions(0.25, 0.25), Findings())
    whole = Manifest.read(tmp_path / "out/dataset.json")
    assert summary.images == {"train": 8, "holdout": 4, "test": 4}
    parts_of = {}
    for name, part in (("train", "train"), ("val", "holdout"), ("test", "test")):
        samples = Manifest.read(tmp_path / f"out/{name}.json").samples
        assert samples == whole.of(part)  # type: ignore[arg-type]
        for sample in samples:
            assert sample.image.exists()
            parts_of.setdefault(sample.group, set()).add(sample.part)
    assert all(len(parts) == 1 for parts in parts_of.values())
    assert len(parts_of) == 8


def test_a_labs_own_test_part_is_kept_and_what_it_tears_is_told(index: Path, tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"mine": {"train": [], "test": ["a-1", "b-1", "b-2"]}}))
    findings = Findings()
    split_index(index, tmp_path, SplitOptions(0.2, test_keys=read_test_keys(path)), findings)
    assert {s.key for s in Manifest.read(tmp_path / "test.json").samples} == {"a-1", "b-1", "b-2"}
    assert [(f.kind, f.where) for f in findings.kept] == [("leakage", "a")]


def test_too_few_groups_are_told(tmp_path: Path) -> None:
    write_labelled(tmp_path / "lab", ["a-1", "a-2"])
    build_index(Folders(labeled=tmp_path / "lab"), ClassList(CLASSES), tmp_path, IndexOptions(), Findings())
    findings = Findings()
    split_index(tmp_path / LABELED_NAME, tmp_path, SplitOptions(), findings)
    assert [f.where for f in findings.kept] == ["validation", "test"]
    assert "--pattern" in findings.kept[0].fix


def test_bad_shares_and_lists_are_refused(tmp_path: Path, index: Path) -> None:
    with pytest.raises(BadSplit, match="leave a part for training"):
        split_index(index, tmp_path, SplitOptions(0.6, 0.4), Findings())
    (tmp_path / "s.json").write_text('{"a": {"test": []}, "b": {"test": []}}')
    with pytest.raises(BadSplit, match="holds the splits a, b; name one"):
        read_test_keys(tmp_path / "s.json")
    with pytest.raises(BadSplit, match="does not list a test part"):
        read_test_keys(tmp_path / "s.json", "c")
    with pytest.raises(BadSplit, match="does not list a test part"):
        read_test_keys(tmp_path / "missing.json")
