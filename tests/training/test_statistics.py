"""Numbers of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from micrograph_folders import CLASSES, blocks, texture

from model_zoo.card import Normalisation
from model_zoo.normalisation import normalise
from training.data.findings import Findings
from training.data.manifest import Sample
from training.data.statistics import (
    DatasetStatistics,
    NothingToMeasure,
    RunningMoments,
    StatisticsBuilder,
    measure,
)

pytestmark = pytest.mark.fast


@given(
    st.lists(arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3)), min_size=1, max_size=8)
)
@settings(max_examples=50, deadline=None)
def test_moments_of_portions_are_those_of_the_whole(portions):
    moments = RunningMoments()
    for portion in portions:
        moments.add(portion.size, float(portion.mean()), float(portion.var()))
    whole = np.concatenate(portions)
    assert moments.result.mean == pytest.approx(whole.mean(), abs=1e-8)
    assert moments.result.std == pytest.approx(whole.std(), abs=1e-6)


def builder() -> StatisticsBuilder:
    built = StatisticsBuilder(CLASSES)
    mask = blocks(indices=(0, 1))
    mask[0] = 255
    built.add(texture(1), mask, "a")
    built.add(texture(2, (32, 32)), blocks((32, 32), (0, 0)), "a")
    built.add(texture(3).astype(np.uint16) * 257, None, "b")
    return built


def test_what_is_normalised_by_them_has_zero_mean_and_unit_deviation() -> None:
    found = builder().result("train")
    images = [texture(1), texture(2, (32, 32)), texture(3).astype(np.uint16) * 257]
    for kind in ("percentile", "range"):
        how = found.normalisation(kind)
        values = np.concatenate([normalise(image[None], how).ravel() for image in images])
        assert values.mean() == pytest.approx(0, abs=1e-4)
        assert values.std() == pytest.approx(1, abs=1e-4)
        assert isinstance(how, Normalisation)


def test_classes_sizes_and_intensities_are_counted() -> None:
    found = builder().result("train")
    assert (found.images, found.groups) == (3, 2)
    assert [c.images for c in found.classes] == [2, 1, 0]
    assert found.classes[1].pixels == 47 * 32
    assert sum(c.share for c in found.classes) == pytest.approx(1)
    assert found.ignored_share == pytest.approx(64 / (48 * 64 + 32 * 32))
    assert (found.sizes.smallest, found.sizes.largest) == ((32, 32), (64, 48))
    assert found.sizes.common == {"64×48": 2, "32×32": 1}
    eight = np.concatenate([texture(1).ravel(), texture(2, (32, 32)).ravel()])
    assert found.intensities["8"].mean == pytest.approx(eight.mean())
    assert found.intensities["8"].std == pytest.approx(eight.std())
    assert (found.intensities["8"].minimum, found.intensities["8"].maximum) == (eight.min(), eight.max())
    assert found.intensities["16"].images == 1


def test_they_come_back_from_their_file(tmp_path: Path) -> None:
    found = builder().result("train")
    found.write(tmp_path / "new/dataset_stats.json")
    assert DatasetStatistics.model_validate_json((tmp_path / "new/dataset_stats.json").read_text()) == found


def test_an_unreadable_image_is_counted_and_told(tmp_path: Path) -> None:
    sample = Sample(key="a", image=tmp_path / "none.png", group="a")
    findings = Findings()
    with pytest.raises(NothingToMeasure, match="no image that can be read"):
        measure([sample], CLASSES, "train", findings)
    assert findings.counts == {"unreadable-image": 1}
