"""Crops for training: where they are cut, what is in them, and that they can be had again."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from micrographs import CLASSES, picture, write_sample

from training.config import TrainingConfig, load_config
from training.data.dataset import LabelledImages, TrainingCrops, loader
from training.data.manifest import Sample
from training.data.micrograph import BadImage, read_micrograph
from training.data.samples import BadSample, read_stack, read_truth

pytestmark = pytest.mark.fast
PLAIN = ["augmentation.enabled=false"]


def config(*overrides: str) -> TrainingConfig:
    return load_config("test", list(overrides))


def images(folder: Path, *samples: Sample, settings: TrainingConfig | None = None) -> LabelledImages:
    return LabelledImages.load(samples, len(CLASSES), settings or config(), folder / "decoded")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return [write_sample(tmp_path, f"task-{seed}", *picture(seed)) for seed in range(3)]


def test_a_crop_depends_on_the_seed_and_its_number_alone(samples: list[Sample], tmp_path: Path) -> None:
    crops = TrainingCrops(images(tmp_path, *samples), config())
    again = TrainingCrops(images(tmp_path, *samples), config())
    other = TrainingCrops(images(tmp_path, *samples), config("seed=1"))
    for number in (7, 0, 3):
        pixels, truth = crops[number]
        assert pixels.equal(again[number][0])
        assert truth.equal(again[number][1])
        assert not pixels.equal(other[number][0])


def test_a_stream_goes_on_where_another_stopped_with_any_number_of_workers(
    samples: list[Sample], tmp_path: Path
) -> None:
    crops = TrainingCrops(images(tmp_path, *samples), config())
    whole = list(islice(loader(crops, 2, 0, lambda: 0, pin_memory=False), 5))
    rest = list(islice(loader(crops, 2, 2, lambda: 4, pin_memory=False), 3))
    for (pixels, truth), (expected_pixels, expected_truth) in zip(rest, whole[2:], strict=True):
        assert pixels.equal(expected_pixels)
        assert truth.equal(expected_truth)


def test_crops_have_the_networks_type_and_shape(samples: list[Sample], tmp_path: Path) -> None:
    crops = TrainingCrops(images(tmp_path, *samples), config())
    for number in range(20):
        pixels, truth = crops[number]
        assert (pixels.shape, str(pixels.dtype)) == ((1, 64, 64), "torch.float32")
        assert (truth.shape, str(truth.dtype)) == ((64, 64), "torch.uint8")
        assert pixels.isfinite().all()


def test_pixels_and_truth_are_cut_from_one_place(tmp_path: Path) -> None:
    _, truth = picture(0)
    image = np.array([0, 128, 255], dtype=np.uint8)[truth]
    settings = load_config(
        "test",
        {
            "augmentation": {"probability": 0, "scale": [1, 1]},
            "normalisation": {"kind": "range", "mean": 0, "std": 1},
        },
    )
    crops = TrainingCrops(
        images(tmp_path, write_sample(tmp_path, "a", image, truth), settings=settings), settings
    )
    for number in range(10):
        pixels, truth_crop = crops[number]
        levels = np.array([0, 128 / 255, 1])[truth_crop.numpy()]
        np.testing.assert_allclose(pixels[0].numpy(), levels, atol=1e-4)


def test_intensities_are_normalised_over_the_whole_image(tmp_path: Path) -> None:
    image = np.full((128, 128), 100, dtype=np.uint8)
    image[:64] = 200
    truth = np.zeros_like(image)
    settings = config(*PLAIN)
    crops = TrainingCrops(
        images(tmp_path, write_sample(tmp_path, "a", image, truth), settings=settings), settings
    )
    levels = {round(float(value), 3) for number in range(30) for value in crops[number][0].unique()}
    how = settings.normalisation
    assert levels == {round((level - how.mean) / how.std, 3) for level in (0.0, 1.0)}


def test_a_small_image_is_mirrored_and_its_surroundings_ignored(tmp_path: Path) -> None:
    image, truth = picture(1, size=(20, 33))
    settings = config(*PLAIN)
    crops = TrainingCrops(
        images(tmp_path, write_sample(tmp_path, "a", image, truth), settings=settings), settings
    )
    for number in range(10):
        pixels, truth_crop = crops[number]
        assert pixels.shape == (1, 64, 64)
        assert int((truth_crop != 255).sum()) == 20 * 33
        assert pixels.std() > 0.1


def test_every_image_is_seen_once_a_round(samples: list[Sample], tmp_path: Path) -> None:
    settings = config("foreground_crops=0")
    crops = TrainingCrops(images(tmp_path, *samples), settings)
    for start in (0, 3, 6):
        chosen = [crops._choose(n, np.random.default_rng(0))[0].key for n in range(start, start + 3)]
        assert sorted(chosen) == ["task-0", "task-1", "task-2"]


def test_rarer_classes_are_looked_for(tmp_path: Path) -> None:
    image = np.zeros((512, 512), dtype=np.uint8)
    truth = np.zeros_like(image)
    truth[300:303, 17:20] = 2
    truth[40:48, 400:408] = 1
    sample = write_sample(tmp_path, "a", image, truth)
    settings = config(*PLAIN, "foreground_crops=1")
    crops = TrainingCrops(images(tmp_path, sample, settings=settings), settings)
    found = [set(crops[number][1].unique().tolist()) for number in range(40)]
    assert all(values & {1, 2} for values in found)
    assert 8 < sum(2 in values for values in found) < 32
    without = TrainingCrops(images(tmp_path, sample, settings=settings), config(*PLAIN, "foreground_crops=0"))
    assert sum(2 in set(without[number][1].unique().tolist()) for number in range(40)) < 8


def test_crops_go_where_somebody_spoke(tmp_path: Path) -> None:
    image = np.zeros((512, 512), dtype=np.uint8)
    truth = np.full_like(image, 255)
    truth[100:104, 100:104] = 1
    settings = config(*PLAIN, "foreground_crops=0")
    crops = TrainingCrops(
        images(tmp_path, write_sample(tmp_path, "a", image, truth), settings=settings), settings
    )
    assert all((crops[number][1] == 1).any() for number in range(10))


def test_images_beyond_the_memory_are_mapped_from_disk_and_the_same(
    samples: list[Sample], tmp_path: Path
) -> None:
    in_memory = images(tmp_path, *samples)
    mapped = images(tmp_path, *samples, settings=config("memory_mb=0"))
    assert isinstance(mapped.images[0].pixels, np.memmap)
    assert TrainingCrops(in_memory, config())[5][0].equal(TrainingCrops(mapped, config())[5][0])


def test_neighbouring_frames_are_stacked(tmp_path: Path) -> None:
    paths = [write_sample(tmp_path, f"f{n}", picture(n)[0], None).image for n in range(5)]
    middle = write_sample(tmp_path, "f2", *picture(2)).model_copy(update={"frames": tuple(paths)})
    stack = read_stack(middle, 3)
    assert stack.shape == (3, 96, 80)
    np.testing.assert_array_equal(stack[0], picture(1)[0])
    np.testing.assert_array_equal(stack[1], picture(2)[0])
    settings = config("input_depth=3")
    assert TrainingCrops(images(tmp_path, middle, settings=settings), settings)[0][0].shape == (3, 64, 64)


def test_an_image_without_neighbours_is_repeated(samples: list[Sample]) -> None:
    stack = read_stack(samples[0], 3)
    np.testing.assert_array_equal(stack[0], stack[2])


def test_too_few_frames_are_refused(samples: list[Sample]) -> None:
    short = samples[0].model_copy(update={"frames": (samples[0].image,)})
    with pytest.raises(BadSample, match=r"task-0 lists 1 frames, but the model looks at 3"):
        read_stack(short, 3)


def test_the_nearest_frame_stands_in_for_one_that_does_not_fit(tmp_path: Path, samples: list[Sample]) -> None:
    other = write_sample(tmp_path, "other", picture(9, (50, 50))[0], None).image
    broken = tmp_path / "broken.png"
    broken.write_bytes(samples[2].image.read_bytes()[:100])
    before, middle = samples[1].image, samples[0].image
    stack = read_stack(samples[0].model_copy(update={"frames": (broken, before, middle, other, other)}), 5)
    first, second = (read_micrograph(path) for path in (before, middle))
    assert np.array_equal(stack, np.stack([first, first, second, second, second]))


def test_the_image_itself_has_no_stand_in(tmp_path: Path, samples: list[Sample]) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(BadImage):
        read_stack(samples[0].model_copy(update={"frames": (samples[1].image, broken, samples[2].image)}), 3)


def test_a_mask_of_another_size_names_both(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a", picture(0)[0], picture(0, (40, 30))[1])
    with pytest.raises(BadSample, match=r"a-mask\.png is 30 × 40 px, its image .*a\.png is 80 × 96 px"):
        read_truth(sample, (96, 80), 3)


def test_a_mask_with_an_unknown_index_is_refused(samples: list[Sample]) -> None:
    with pytest.raises(BadSample, match="holds the index 2, but there are 2 classes"):
        read_truth(samples[0], (96, 80), 2)


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path, samples: list[Sample]) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    broken = samples[1].model_copy(update={"image": text, "key": "broken"})
    silent = write_sample(tmp_path, "silent", picture(5)[0], np.full((96, 80), 255, np.uint8))
    found = images(tmp_path, samples[0], broken, silent)
    assert [image.key for image in found.images] == ["task-0"]
    assert found.problems[0].startswith("broken is left out: ")
    assert "ignored" in found.problems[1]
