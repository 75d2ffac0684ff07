"""From folders to manifests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from micrograph_folders import CLASSES, SIZE, blocks, texture, write_image, write_labelled

from training.data.classes_file import ClassList
from training.data.findings import Findings
from training.data.index import (
    LABELED_NAME,
    UNLABELED_NAME,
    BadIndexOptions,
    IndexOptions,
    IndexSummary,
    build_index,
)
from training.data.manifest import Manifest, Sample
from training.data.manifest_stream import read_class_infos, read_samples, write_samples
from training.data.mask_import import ClassesNeeded
from training.data.masks import read_mask
from training.data.names import compile_pattern
from training.data.scan import BadFolder, Folders
from training.simulator import write_dataset

pytestmark = pytest.mark.fast
LIST = ClassList(CLASSES, ignore_color=(255, 255, 255))


class Indexed:
    """What an index of folders wrote."""

    def __init__(
        self, folders: Folders, out: Path, classes: ClassList | None = LIST, **options: object
    ) -> None:
        self.findings = Findings()
        self.summary: IndexSummary = build_index(
            folders,
            classes,
            out,
            IndexOptions(**options),
            self.findings,  # type: ignore[arg-type]
        )
        self.labeled = {s.key: s for s in Manifest.read(out / LABELED_NAME).samples}
        self.unlabeled = {s.key: s for s in Manifest.read(out / UNLABELED_NAME).samples}
        self.samples: dict[str, Sample] = self.labeled | self.unlabeled


def test_masks_find_their_images_and_the_others_are_the_pool(tmp_path: Path) -> None:
    write_labelled(tmp_path / "lab", ["a", "b"])
    write_image(tmp_path / "raw/c.tif", texture(3))
    found = Indexed(Folders(tmp_path / "raw", tmp_path / "lab"), tmp_path / "out")
    assert (set(found.labeled), set(found.unlabeled)) == ({"a", "b"}, {"c"})
    assert found.labeled["a"].mask is not None
    assert found.labeled["a"].mask.samefile(tmp_path / "lab/masks/a.png")
    assert (found.labeled["a"].part, found.unlabeled["c"].part) == ("train", "pool")
    assert not found.findings.kept
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [LABELED_NAME, UNLABELED_NAME]


def test_images_and_masks_may_lie_in_two_folders_of_any_name(tmp_path: Path) -> None:
    write_image(tmp_path / "raw/rat1/0007.tif", texture(1))
    write_image(tmp_path / "raw/rat2/0007.tif", texture(2))
    write_image(tmp_path / "labels/rat2/0007.png", blocks())
    found = Indexed(Folders(tmp_path / "raw", tmp_path / "labels"), tmp_path / "out")
    assert (set(found.labeled), set(found.unlabeled)) == ({"rat2/0007"}, {"rat1/0007"})


@pytest.mark.parametrize("mask", ["a_mask.png", "a-label.png"])
def test_images_and_masks_may_share_a_folder(tmp_path: Path, mask: str) -> None:
    write_image(tmp_path / "a.png", texture(1))
    write_image(tmp_path / mask, blocks())
    write_image(tmp_path / "b.tif", texture(2))
    write_image(tmp_path / "b.png", blocks())
    found = Indexed(Folders(labeled=tmp_path), tmp_path / "out")
    assert set(found.labeled) == {"a", "b"}
    assert found.labeled["b"].image.suffix == ".tif"


@pytest.mark.parametrize("layout", ["{image}_{name}.png", "{name}/{image}.png"])
def test_binary_masks_become_one_index_mask(tmp_path: Path, layout: str) -> None:
    write_image(tmp_path / "raw/a_1.png", texture(1))
    for value, name in ((1, "pore"), (2, "crack")):
        path = tmp_path / "masks" / layout.format(image="a_1", name=name)
        write_image(path, (blocks() == value).astype(np.uint8) * np.uint8(255))
    found = Indexed(Folders(tmp_path / "raw", tmp_path / "masks"), tmp_path / "out")
    mask = found.labeled["a_1"].mask
    assert mask is not None and np.array_equal(read_mask(mask), blocks())
    assert found.summary.masks_by_format == {"binary": 1}
    assert found.summary.converted_masks == 1


def test_colour_masks_are_converted_and_unknown_colours_leave_the_mask_out(tmp_path: Path) -> None:
    colors = np.array([*LIST.colors], np.uint8)[blocks()]
    for name, image in (("a", colors), ("b", np.where(colors == 0, 50, colors).astype(np.uint8))):
        write_image(tmp_path / f"raw/{name}.png", texture(name.encode()[0]))
        write_image(tmp_path / f"masks/{name}.png", image)
    found = Indexed(Folders(tmp_path / "raw", tmp_path / "masks"), tmp_path / "out")
    assert np.array_equal(read_mask(found.labeled["a"].mask), blocks())  # type: ignore[arg-type]
    assert set(found.unlabeled) == {"b"}
    assert {f.kind for f in found.findings.kept} == {"unknown-color"}
    assert any("#ff3232" in finding.message for finding in found.findings.kept)
    assert found.findings.kept[0].places


def test_sequences_make_groups_and_stacks_whose_edges_repeat(tmp_path: Path) -> None:
    for frame in (1, 2, 4):
        write_image(tmp_path / f"raw/4.2V-{frame:03d}.png", texture(frame))
    write_image(tmp_path / "raw/4.2V-005.png", texture(5, (40, 40)))
    write_image(tmp_path / "raw/single.png", texture(9))
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out", input_depth=5)

    def frames(key: str) -> list[str]:
        return [path.stem[-1] for path in found.unlabeled[key].frames]

    assert frames("4.2V-001") == ["1", "1", "1", "2", "4"]
    assert frames("4.2V-002") == ["1", "1", "2", "4", "4"]  # frame 5 has another size
    assert frames("4.2V-005") == ["5"] * 5
    assert frames("single") == []
    assert {sample.group for key, sample in found.samples.items() if key != "single"} == {"4.2V"}
    assert all(path.exists() for path in found.unlabeled["4.2V-001"].frames)


def test_frames_of_different_folders_are_no_neighbours(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        for frame in (1, 2):
            write_image(tmp_path / f"raw/{folder}/img_{frame:03d}.png", texture([ord(folder), frame]))
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out", input_depth=3)
    for sample in found.samples.values():
        assert {path.parent.name for path in sample.frames} == {sample.image.parent.name}


def test_near_duplicates_and_copies_share_a_group_across_sequences(tmp_path: Path) -> None:
    image = texture(3, (200, 240))
    write_image(tmp_path / "raw/first-001.png", image)
    write_image(tmp_path / "raw/zz.jpg", image)
    write_image(tmp_path / "raw/second-001.png", (image * 0.7).astype(np.uint8))
    write_image(tmp_path / "raw/other.png", texture(4, (200, 240)))
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out")
    assert {key: sample.group for key, sample in found.samples.items()} == {
        "first-001": "first",
        "second-001": "first",
        "zz": "first",
        "other": "other",
    }
    assert found.summary.duplicate_clusters == 1
    without = Indexed(Folders(tmp_path / "raw"), tmp_path / "out", near_duplicates=False)
    assert without.samples["second-001"].group == "second"


def test_a_pattern_tells_sequences(tmp_path: Path) -> None:
    write_image(tmp_path / "raw/rat1/0007.png", texture(1))
    pattern = compile_pattern(r"(?P<sequence>[^/]+)/(?P<frame>\d+)$")
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out", pattern=pattern)
    assert (found.samples["0007"].sequence, found.samples["0007"].frame) == ("rat1", 7)


def test_what_is_wrong_is_reported_and_left_out(tmp_path: Path) -> None:
    write_labelled(tmp_path, ["good", "small", "broken", "odd"])
    write_image(tmp_path / "masks/small.png", blocks((SIZE[0], SIZE[1] - 1)))
    (tmp_path / "masks/broken.png").write_bytes(b"no mask")
    write_image(tmp_path / "masks/lonely.png", blocks())
    write_image(tmp_path / "masks/odd.png", blocks(indices=(0, 7)))
    (tmp_path / "images/torn.png").write_bytes((tmp_path / "images/good.png").read_bytes()[:100])
    found = Indexed(Folders(labeled=tmp_path), tmp_path / "out")
    assert found.findings.counts == {
        "unpaired-mask": 1,
        "unreadable-image": 1,
        "unreadable-mask": 1,
        "size": 1,
        "unknown-color": 1,
    }
    assert (set(found.labeled), set(found.unlabeled)) == ({"good"}, {"small", "broken", "odd"})
    assert all(finding.fix and finding.message for finding in found.findings.kept)


def test_one_name_with_two_extensions_counts_once_and_is_told(tmp_path: Path) -> None:
    for suffix in ("png", "tif"):
        write_image(tmp_path / f"raw/a.{suffix}", texture(1))
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out")
    assert [sample.image.suffix for sample in found.samples.values()] == [".tif"]
    assert found.findings.counts == {"double-name": 1}


def test_the_same_image_in_raw_and_beside_its_mask_counts_once(tmp_path: Path) -> None:
    write_labelled(tmp_path / "lab", ["a"])
    write_image(tmp_path / "raw/a.png", texture([ord("a")]))
    found = Indexed(Folders(tmp_path / "raw", tmp_path / "lab"), tmp_path / "out")
    assert (set(found.labeled), set(found.unlabeled)) == ({"a"}, set())


def test_the_same_folders_give_the_same_bytes_and_may_be_moved(tmp_path: Path) -> None:
    write_labelled(tmp_path / "a/lab", ["x-1", "x-2", "y"])
    Indexed(Folders(labeled=tmp_path / "a/lab"), tmp_path / "a/out")
    first = (tmp_path / "a/out" / LABELED_NAME).read_bytes()
    Indexed(Folders(labeled=tmp_path / "a/lab"), tmp_path / "a/out", workers=1)
    assert (tmp_path / "a/out" / LABELED_NAME).read_bytes() == first
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Manifest.read(tmp_path / "b/out" / LABELED_NAME)
    assert all(sample.image.exists() and sample.mask and sample.mask.exists() for sample in moved.samples)


def test_bad_input_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="is not a folder"):
        Indexed(Folders(tmp_path / "none"), tmp_path / "out")
    with pytest.raises(BadFolder, match="neither a folder of images"):
        Indexed(Folders(), tmp_path / "out")
    (tmp_path / "raw").mkdir()
    with pytest.raises(BadFolder, match="no image in"):
        Indexed(Folders(tmp_path / "raw"), tmp_path / "out")
    with pytest.raises(BadIndexOptions, match="must be odd"):
        Indexed(Folders(tmp_path / "raw"), tmp_path / "out", input_depth=2)
    with pytest.raises(ClassesNeeded, match="--classes"):
        Indexed(Folders(labeled=write_labelled(tmp_path / "lab", ["a"])), tmp_path / "out", classes=None)


def test_a_simulated_dataset_is_indexed_whole(tmp_path: Path) -> None:
    names = write_dataset(tmp_path, 6, 1, (96, 128), sequences=1, frames=3)
    from training.data.classes_file import read_classes

    found = Indexed(Folders(labeled=tmp_path), tmp_path / "out", read_classes(tmp_path / "classes.json"))
    assert len(found.labeled) == len(names)
    assert found.summary.groups == 4
    assert not found.findings.kept


@pytest.mark.parametrize(
    ("name", "images", "groups"),
    [
        ("nasa_super", 14, 12),
        ("dtsegnet", 17, 17),
        ("axon_sem", 4, 4),
        ("nanocomposite", 13, 4),
        ("tem_sintering", 20, 1),
    ],
)
def test_the_real_sets_are_indexed_whole(
    tmp_path: Path, shared_data: Path, name: str, images: int, groups: int
) -> None:
    from training.data.classes_file import read_classes

    folder = shared_data / name
    found = Indexed(
        Folders(folder / "images", folder / "masks"), tmp_path, read_classes(folder / "classes.json")
    )
    assert (found.summary.labeled, found.summary.groups) == (images, groups)
    assert (found.summary.duplicate_clusters, found.findings.kept) == (0, ())


def test_a_streamed_manifest_is_the_manifest(tmp_path: Path) -> None:
    samples = tuple(
        Sample(key=f"{n}", image=Path(f"i/{n}.png"), group='g"[],}', content="x" * 5000) for n in range(40)
    )
    written = Manifest(classes=CLASSES, samples=samples)
    written.write(tmp_path / "whole.json")
    assert write_samples(tmp_path / "streamed.json", CLASSES, samples) == 40
    for path in (tmp_path / "whole.json", tmp_path / "streamed.json"):
        assert tuple(read_samples(path)) == Manifest.read(path).samples
        assert read_class_infos(path) == CLASSES


def test_a_frame_of_another_size_ends_the_neighbourhood(tmp_path: Path) -> None:
    for frame, size in ((1, SIZE), (2, (40, 40)), (3, SIZE), (4, SIZE)):
        write_image(tmp_path / f"raw/film-{frame:03d}.png", texture(frame, size))
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out", input_depth=5)
    assert [path.stem[-1] for path in found.samples["film-003"].frames] == ["3", "3", "3", "4", "4"]


def test_copies_share_a_group_even_where_there_is_nothing_to_see(tmp_path: Path) -> None:
    for name, grey in (("a", 0), ("b", 0), ("c", 9)):
        write_image(tmp_path / f"raw/{name}.png", np.full(SIZE, grey, np.uint8))
    found = Indexed(Folders(tmp_path / "raw"), tmp_path / "out")
    assert [found.samples[key].group for key in "abc"] == ["a", "a", "c"]
