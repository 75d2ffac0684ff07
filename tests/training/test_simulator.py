"""The simulator's promises: reproducible, exact masks, what is asked for and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from training.simulator import SCENES, SimulatorConfig, simulate, simulate_sequence
from training.simulator.config import UnknownScene
from training.simulator.info_bar import height_of, scale_bar

pytestmark = pytest.mark.fast
SMALL = SimulatorConfig(size=(192, 256))


def without_noise(config: SimulatorConfig) -> SimulatorConfig:
    """The same scene, perfectly imaged: what the mask says must be what is seen."""
    still = {"dose": (1e7, 1e7), "detector_noise": (0, 0), "line_noise": (0, 0), "unevenness": 0}
    sharp = {"defocus": (0.3, 0.3), "astigmatism": 0, "charging": (0, 0), "shading": (0, 0)}
    return config.model_copy(update={"imaging": config.imaging.model_copy(update=still | sharp)})


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    first, again, other = simulate(SMALL, 3), simulate(SMALL, 3), simulate(SMALL, 4)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.pixel_size_nm == again.pixel_size_nm
    assert (first.image != other.image).mean() > 0.5
    assert (first.mask != other.mask).any()


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_shows_its_classes_over_a_matrix(scene: str) -> None:
    config = SimulatorConfig.scene(scene, size=(256, 256))
    masks = [simulate(config, seed).mask for seed in range(6)]
    seen = set(np.unique(np.stack(masks)))
    assert seen == {*range(len(config.class_infos)), 255}
    assert config.class_infos[0].implicit
    assert all((mask == 0).mean() > 0.2 for mask in masks)


def test_an_unknown_scene_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(UnknownScene, match="alloy, superalloy, powder"):
        SimulatorConfig.scene("moon")


def test_classes_that_are_left_out_are_in_neither_image_nor_mask() -> None:
    config = SimulatorConfig(size=(256, 256), classes=("pore",))
    micrograph = simulate(config, 0)
    assert [info.name for info in micrograph.classes] == ["matrix", "pore"]
    assert set(np.unique(micrograph.mask)) == {0, 1, 255}


def test_masks_are_exact_also_when_the_stage_drifts_and_lines_jitter() -> None:
    config = without_noise(SimulatorConfig(size=(256, 256), classes=("pore",)))
    shaken = config.imaging.model_copy(update={"jitter": (2.0, 2.0), "drift": 8.0})
    micrograph = simulate(config.model_copy(update={"imaging": shaken}), 5)
    pore = micrograph.mask == 1
    dark = micrograph.image < 0.7 * np.median(micrograph.image[micrograph.mask == 0])
    field = micrograph.mask != 255
    # Pores darken from their rim inwards: what is dark is a pore, not one pixel beside it.
    assert dark[field].sum() > 200
    assert not (dark & ~pore & field).any()


def test_particles_are_brighter_and_pores_and_cracks_darker_than_the_matrix() -> None:
    image, mask = [], []
    for seed in range(6):
        micrograph = simulate(SimulatorConfig(size=(256, 256)), seed)
        image.append(micrograph.image / np.median(micrograph.image[micrograph.mask == 0]))
        mask.append(micrograph.mask)
    image_stack, mask_stack = np.stack(image), np.stack(mask)
    assert np.median(image_stack[mask_stack == 1]) > 1.15
    assert np.median(image_stack[mask_stack == 2]) < 0.75
    assert np.median(image_stack[mask_stack == 3]) < 0.9


def test_edges_are_brighter_than_what_they_enclose() -> None:
    config = without_noise(SimulatorConfig(size=(256, 256), classes=("particle",)))
    micrograph = simulate(config, 1)
    particle = (micrograph.mask == 1).astype(np.uint8)
    inner = np.ones_like(particle, bool)
    for shift in range(-4, 5):
        inner &= (np.roll(particle, shift, 0) & np.roll(particle, shift, 1)).astype(bool)
    rim = particle.astype(bool) & ~inner
    assert np.median(micrograph.image[rim]) > np.median(micrograph.image[inner]) + 3


def test_cracks_cover_about_the_share_asked_for() -> None:
    config = SimulatorConfig(size=(256, 256), classes=("crack",))
    shares = [float((simulate(config, seed).mask == 1).mean()) for seed in range(40)]
    assert 0.0015 < np.mean(shares) < 0.0045


def test_the_info_bar_teaches_nothing_and_can_be_left_out() -> None:
    rows = height_of(SMALL.size[0])
    barred = simulate(SMALL, 0)
    assert (barred.mask[-rows:] == 255).all()
    assert not (barred.mask[:-rows] == 255).any()
    plain = SMALL.model_copy(update={"imaging": SMALL.imaging.model_copy(update={"info_bar": False})})
    assert not (simulate(plain, 0).mask == 255).any()


@pytest.mark.parametrize("pixel_size", [0.31, 4.0, 25.0, 973.0])
def test_the_scale_bar_has_a_round_length_that_fits(pixel_size: float) -> None:
    length, label = scale_bar(pixel_size, 1024)
    number, unit = label.split()
    nanometres = float(number) * {"nm": 1, "um": 1000}[unit]
    assert length * pixel_size == pytest.approx(nanometres, rel=0.02)
    assert 1024 / 15 < length <= 1024 / 5 + 1


def test_sixteen_bits_use_the_range() -> None:
    deep = SMALL.model_copy(update={"imaging": SMALL.imaging.model_copy(update={"bits": 16})})
    image = simulate(deep, 2).image
    assert image.dtype == np.uint16
    assert len(np.unique(image)) > 1000
    assert image.max() > 40_000


def test_a_sequence_shows_one_specimen_that_changes_slowly() -> None:
    calm = SMALL.model_copy(update={"evolution": SMALL.evolution.model_copy(update={"drift": 1.0})})
    frames = list(simulate_sequence(calm, 7, 3))
    field = slice(0, -height_of(SMALL.size[0]))
    changed = [(a.mask[field] != b.mask[field]).mean() for a, b in itertools.pairwise(frames)]
    elsewhere = (frames[0].mask[field] != simulate(calm, 8).mask[field]).mean()
    assert all(0 < share < 0.7 * elsewhere for share in changed)
    assert len({frame.pixel_size_nm for frame in frames}) == 1


def test_growth_enlarges_what_grows() -> None:
    growing = SMALL.evolution.model_copy(update={"growth": (0.08, 0.08), "drift": 0})
    config = SMALL.model_copy(update={"evolution": growing, "classes": ("particle",)})
    shares = [float((frame.mask == 1).mean()) for frame in simulate_sequence(config, 1, 4)]
    assert shares == sorted(shares)
    assert shares[-1] > 1.2 * shares[0]
