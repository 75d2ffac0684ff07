"""Choosing among points: against scikit-activeml, and against trying everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.active_learning.clusters import cluster
from training.active_learning.coreset import k_center
from training.active_learning.coverage import probcover, pure_radius
from training.active_learning.typicality import typicality, typiclust

pytestmark = pytest.mark.fast


def points_of(seed: int, count: int = 300, width: int = 12) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def blobs(seed: int = 0, sizes: tuple[int, ...] = (40, 30, 20, 12)) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(20 * place, 1, (size, 4)) for place, size in enumerate(sizes)]).astype(
        "f4"
    )


def brute_force(points: NDArray[np.float32], budget: int, centers: list[int]) -> list[int]:
    """All distances to all centres, in float64, at each pick."""
    exact = points.astype(np.float64)
    chosen = list(centers)
    for _ in range(budget):
        near = np.linalg.norm(exact[:, None] - exact[chosen][None], axis=2).min(axis=1)
        near[chosen] = -1
        chosen.append(int(near.argmax()))
    return chosen[len(centers) :]


@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0, 50))
@settings(max_examples=25, deadline=None)
def test_k_center_is_the_greedy_one(seed: int, labeled: int, offset: float) -> None:
    points = points_of(seed, 120) + np.float32(offset)
    centers = list(range(labeled))
    assert k_center(points, 30, centers).rows.tolist() == brute_force(points, 30, centers)


@pytest.mark.parametrize("kind", ["spread", "in clusters"])
def test_k_center_is_scikit_activemls(kind: str) -> None:
    from skactiveml.pool import CoreSet

    points = points_of(1, 5000, 32)
    if kind == "in clusters":
        points = 0.1 * points + points_of(2, 40, 32)[np.arange(len(points)) % 40]
    labels = np.full(len(points), np.nan)
    labels[[5, 77]] = 0
    expected = CoreSet(random_state=0).query(points, labels, batch_size=60)
    found = k_center(points, 60, [5, 77])
    assert found.rows.tolist() == expected.tolist()
    assert (np.diff(found.distances) <= 1e-4).all()


def test_k_center_measures_few_distances_where_points_allow_it() -> None:
    points = points_of(0, 20_000, 64)
    assert k_center(points, 50, range(20)).measured < 2 * 20 * len(points)


def test_k_center_reads_half_floats_from_a_file(tmp_path: Path) -> None:
    points = points_of(3, 20_000, 16).astype(np.float16)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    expected = k_center(points.astype(np.float32), 40, [0])
    assert k_center(mapped, 40, [0]).rows.tolist() == expected.rows.tolist()


def test_k_center_without_labels_begins_in_the_middle() -> None:
    points = points_of(4, 500) + 3
    first = k_center(points, 2)
    assert first.rows[0] == np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()
    assert np.isinf(first.distances[0])
    assert first.rows[1] == np.linalg.norm(points - points[first.rows[0]], axis=1).argmax()


def test_k_center_ends_with_the_candidates_and_ignores_the_others() -> None:
    points = points_of(5, 50)
    points[7] = np.nan
    candidates = np.zeros(50, bool)
    candidates[[3, 9, 20]] = True
    refused = k_center(points, 10, [0], candidates, admit=lambda row: row != 9)
    assert sorted(refused.rows) == [3, 20]
    assert k_center(points[:0], 3).rows.size == 0


def test_equal_points_are_all_chosen_in_order() -> None:
    assert k_center(np.ones((6, 3), np.float32), 4, [2]).rows.tolist() == [0, 1, 3, 4]


def test_typical_ones_are_scikit_activemls() -> None:
    from skactiveml.pool import TypiClust

    points = blobs()
    labels = np.full(len(points), np.nan)
    labels[45] = 0  # in the second blob
    expected = TypiClust(random_state=0, k=5).query(points, labels, batch_size=3)
    labeled = np.isfinite(labels)
    found = typiclust(points, cluster(points, 4, 0), labeled, ~labeled, 3, neighbours=5)
    assert [row for row, _ in found] == expected.tolist()


def test_typicality_is_the_inverse_mean_distance_to_neighbours() -> None:
    points = np.array([[0.0], [1.0], [3.0]], np.float32)
    np.testing.assert_allclose(typicality(points, 1), [1, 1, 0.5], rtol=1e-5)
    np.testing.assert_allclose(typicality(points, 20), [1 / 2, 1 / 1.5, 1 / 2.5], rtol=1e-5)
    assert typicality(points[:1]).tolist() == [1.0]


def test_after_each_kind_has_one_the_second_most_typical_follow() -> None:
    points = blobs(sizes=(9, 6))
    everything = np.ones(15, bool)
    found = [row for row, _ in typiclust(points, cluster(points, 2, 0), ~everything, everything, 15)]
    assert sorted(found) == list(range(15))
    assert [row < 9 for row in found[:4]] == [True, False, True, False]


@pytest.mark.filterwarnings("ignore:The maximum purity")  # it has no radius to choose among
@pytest.mark.parametrize("radius", [1.5, 2.5, 4.0])
def test_what_covers_most_is_scikit_activemls(radius: float) -> None:
    from skactiveml.pool import ProbCover

    points = blobs(2)
    labels = np.full(len(points), np.nan)
    labels[[0, 50]] = 0
    oracle = ProbCover(random_state=0, deltas=[radius], n_classes=2)
    _, utilities = oracle.query(points, labels, batch_size=12, return_utilities=True)
    labeled = np.isfinite(labels)
    found = probcover(points, labeled, ~labeled, 12, radius)
    # Where several cover as much, the oracle tosses a coin: what is covered must agree up to there.
    gains = [round(share * len(points)) for _, share in found]
    best = np.nanmax(utilities, axis=1)
    distinct = next((i for i in range(12) if (utilities[i] == best[i]).sum() > 1), 12)
    assert gains[: distinct + 1] == best[: distinct + 1].tolist()
    assert gains == sorted(gains, reverse=True)


def test_coverage_is_greedy_by_brute_force() -> None:
    points = points_of(6, 80, 2)
    labeled = np.zeros(80, bool)
    labeled[:3] = True
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= 0.9
    covered = near[labeled].any(axis=0)
    candidates = ~labeled
    for row, share in probcover(points, labeled, candidates, 40, 0.9):
        gains = np.where(candidates, (near & ~covered).sum(axis=1), -1)
        assert row == gains.argmax()
        assert share == pytest.approx(gains[row] / 80)
        candidates[row] = False
        covered |= near[row]


def test_the_radius_keeps_within_a_kind() -> None:
    radius = pure_radius(blobs(), 4, 0)
    assert 1 < radius < 35  # blobs are 40 apart, and of deviation 1 in four dimensions


def test_clusters_are_those_there_are() -> None:
    labels = cluster(blobs(), 4, 0)
    assert [len(set(labels[part])) for part in (slice(0, 40), slice(40, 70), slice(70, 90))] == [1, 1, 1]
    assert len(set(labels)) == 4
    assert cluster(np.ones((5, 2), np.float32), 3, 0).tolist() == [0] * 5
    assert cluster(np.zeros((0, 2), np.float32), 3, 0).size == 0
