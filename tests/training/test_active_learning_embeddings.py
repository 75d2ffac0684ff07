"""Embeddings on disk, and those that need no network."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
from micrograph_folders import texture

from training.active_learning.descriptor import WIDTH, describe_texture
from training.active_learning.embedders import Texture
from training.active_learning.embeddings import EmbeddingStore, standardised
from training.data.micrograph import read_micrograph
from training.data.near_duplicates import DESCRIPTION_BYTES

pytestmark = pytest.mark.fast
SETS = Path(__file__).resolve().parents[2] / "../shared/data"


def vectors(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.float32)[:, None] * np.ones(4, np.float32)


def add(folder: Path, first: int, count: int) -> None:
    digests = [f"image {number}" for number in range(first, first + count)]
    EmbeddingStore(folder, "texture", 4).add(digests, vectors(first, count), [None] * count)


def test_what_was_added_is_found_again_and_numpy_reads_the_file(tmp_path: Path) -> None:
    add(tmp_path, 0, 3)
    add(tmp_path, 2, 3)
    store = EmbeddingStore(tmp_path, "texture", 4)
    assert store.rows(["image 4", "unknown", "image 0"]) == {"image 4": 4, "image 0": 0}
    np.testing.assert_array_equal(store.vectors(), vectors(0, 5))
    assert store.vectors().dtype == np.float16
    np.testing.assert_array_equal(np.load(store.folder / "vectors.npy"), vectors(0, 5))
    assert store.descriptions().shape == (5, DESCRIPTION_BYTES)


def test_another_model_has_embeddings_of_its_own(tmp_path: Path) -> None:
    add(tmp_path, 0, 3)
    assert len(EmbeddingStore(tmp_path, "another", 4)) == 0


def test_one_image_twice_in_a_batch_has_one_row(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "texture", 4)
    store.add(["a", "a", "b"], vectors(0, 3), [None, None, None])
    assert store.rows(["a", "b"]) == {"a": 0, "b": 1}
    assert store.vectors()[:, 0].tolist() == [0, 2]


def test_what_a_crash_left_half_written_is_overwritten(tmp_path: Path) -> None:
    add(tmp_path, 0, 3)
    store = EmbeddingStore(tmp_path, "texture", 4)
    with (store.folder / "vectors.npy").open("ab") as file:
        file.write(b"half a row and more")
    assert len(store) == 3
    add(tmp_path, 3, 2)
    np.testing.assert_array_equal(store.vectors(), vectors(0, 5))


def test_a_file_cut_short_costs_only_what_it_lost(tmp_path: Path) -> None:
    add(tmp_path, 0, 5)
    store = EmbeddingStore(tmp_path, "texture", 4)
    path = store.folder / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-9])
    assert store.rows([f"image {number}" for number in range(5)]).keys() == {"image 0", "image 1", "image 2"}
    add(tmp_path, 3, 2)
    np.testing.assert_array_equal(store.vectors(), vectors(0, 5))


def test_several_processes_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=add, args=(tmp_path, 5 * number, 10)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    store = EmbeddingStore(tmp_path, "texture", 4)
    rows = store.rows([f"image {number}" for number in range(25)])
    assert sorted(rows.values()) == list(range(25))
    assert all(store.vectors()[row, 0] == int(name.split()[1]) for name, row in rows.items())


def test_a_pools_embeddings_are_comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    raw = (rng.normal(size=(50, 3)) * [1, 100, 0.01] + [5, 0, -2]).astype(np.float16)
    rows = np.array([4, 7, -1, 0, 30, 31], np.int64)
    found = standardised(raw, rows)
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(np.linalg.norm(np.delete(found, 2, 0), axis=1), 1, rtol=1e-5)
    monkeypatch.setattr("training.active_learning.embeddings._IN_MEMORY", 1)
    on_disk = standardised(raw, rows)
    assert isinstance(on_disk, np.memmap)
    np.testing.assert_allclose(on_disk, found, atol=2e-3)


def test_a_spoilt_embedding_spoils_no_other() -> None:
    raw = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float16)
    raw[4] = np.inf
    found = standardised(raw, np.arange(9))
    assert np.isfinite(np.delete(found, 4, 0)).all()
    assert not np.isfinite(found[4]).any()


@pytest.mark.parametrize(
    "image",
    [
        texture(0),
        texture(0, (700, 30)),
        np.zeros((9, 9), np.uint8),
        np.full((40, 50), 65535, np.uint16),
        np.ones((1, 1), np.uint8),
    ],
)
def test_every_image_has_a_description_of_order_one(image: np.ndarray) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = Texture()(image)
    assert found.shape == (WIDTH,)
    assert found.dtype == np.float32
    assert np.abs(found).max() < 10


def test_turning_and_another_contrast_change_less_than_another_material() -> None:
    image, other = texture(0, (256, 256)), cv2.GaussianBlur(texture(1, (256, 256)), (0, 0), 3)
    found = describe_texture(image)
    stranger = np.linalg.norm(found - describe_texture(other))
    changed = (np.rot90(image), image[:, ::-1], (image * 0.6 + 30).astype(np.uint8), image.astype("u2") * 200)
    for each in changed:
        assert np.linalg.norm(found - describe_texture(each)) < 0.3 * stranger


@pytest.mark.skipif(not SETS.is_dir(), reason="the sets of micrographs are not beside the checkout")
def test_the_nearest_micrograph_is_of_the_same_material() -> None:
    paths = [path for each in sorted(SETS.glob("*/images")) for path in sorted(each.glob("*.png"))[:4]]
    raw = np.stack([describe_texture(read_micrograph(path)) for path in paths]).astype(np.float16)
    points = standardised(raw, np.arange(len(paths)))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    kinds = np.array([path.parts[-3] for path in paths])
    assert np.mean(kinds[distances.argmin(axis=1)] == kinds) >= 0.9  # 0.31 by their pixels
