"""`augmentation.more`: any transform of albumentations, with exact labels, or one sentence why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
from micrographs import write_manifest

from training.__main__ import main
from training.augmentation.augmenter import Augmenter
from training.augmentation.config import Augmentation
from training.augmentation.library import LibraryTransform, UnusableTransform, check
from training.config import BadConfig, TrainingConfig, load_config, resolve
from training.config_text import commented

# What albumentations warns of (slow, or better done by another) is no error of ours.
pytestmark = [pytest.mark.fast, pytest.mark.filterwarnings("ignore::UserWarning:albumentations")]
LABELS, IGNORED = (2, 5), 255
MOVES: dict[str, dict[str, Any]] = {
    "Affine": {"rotate": [-30, 30], "scale": [0.7, 1.3], "shear": [-10, 10]},
    "ElasticTransform": {"alpha": 60, "sigma": 6},
    "GridDistortion": {},
    "OpticalDistortion": {},
    "Perspective": {},
    "Rotate": {},
    "ThinPlateSpline": {},
}
TONES: dict[str, dict[str, Any]] = {
    "CLAHE": {},
    "Equalize": {},
    "GaussNoise": {},
    "MedianBlur": {"blur_limit": [3, 5]},
    "MotionBlur": {},
    "PixelDropout": {},
    "PlasmaShadow": {},
    "RandomToneCurve": {},
    "Sharpen": {},
}
HOLES = ("CoarseDropout", "GridDropout", "Erasing")


def only(**more: dict[str, Any]) -> Augmentation:
    """These transforms always, none of ours."""
    always = {name: {"p": 1, **arguments} for name, arguments in more.items()}
    ours = dict.fromkeys(("elastic", "drift", "blur", "defocus", "charging", "curtaining", "shading"), 0)
    tones = dict.fromkeys(("shot_noise", "noise", "contrast", "brightness", "gamma"), 0)
    return Augmentation(orientation=False, more=always, **ours, **tones)


def crop(depth: int = 1, side: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A bright square of one label on the other, and a strip that nobody spoke about; all frames alike."""
    truth = np.full((side, side), LABELS[0], np.uint8)
    truth[20:50, 30:60] = LABELS[1]
    image = np.where(truth == LABELS[1], np.float32(0.8), np.float32(0.3))
    image[::7] += np.float32(0.05)
    truth[-8:] = IGNORED
    return np.repeat(image[None], depth, axis=0), truth


@pytest.mark.parametrize("name", MOVES)
def test_the_mask_moves_exactly_as_the_image_does(name: str) -> None:
    augment = Augmenter(only(**{name: MOVES[name]}))
    moved = 0
    for seed in range(5):
        _, truth = crop()
        truth[-8:] = LABELS[0]
        image = (0.25 + 0.5 * (truth == LABELS[1])).astype(np.float32)[None]
        found, mask = augment(image, truth, seed)
        moved += int((mask != truth).sum())
        assert set(np.unique(mask)) <= {*LABELS, IGNORED}
        certain = (mask != IGNORED) & (np.abs(found[0] - 0.5) > 0.2)
        agree = (found[0] > 0.5)[certain] == (mask == LABELS[1])[certain]
        # OpenCV rounds the places of an image and of a mask apart: a pixel at an edge may differ.
        assert agree.mean() > 0.99
        # Outside the picture there is black, and nobody knows what it is.
        assert (mask[found[0] < 0.1] != IGNORED).sum() < 0.001 * mask.size
    assert moved > 100


@pytest.mark.parametrize("name", MOVES)
def test_ignored_stays_ignored(name: str) -> None:
    _, truth = crop()
    truth[:] = LABELS[0]
    truth[:, 40:] = IGNORED
    image = (0.25 + 0.5 * (truth == IGNORED)).astype(np.float32)[None]
    for seed in range(5):
        found, mask = Augmenter(only(**{name: MOVES[name]}))(image, truth, seed)
        assert (mask[found[0] > 0.7] == IGNORED).mean() > 0.99
        assert set(np.unique(mask)) <= {LABELS[0], IGNORED}


@pytest.mark.parametrize("name", HOLES)
def test_what_is_dropped_is_ignored_unless_asked_otherwise(name: str) -> None:
    image, truth = crop()
    found, mask = Augmenter(only(**{name: {}}))(image, truth, 3)
    holes = np.abs(found[0] - image[0]) > 1e-6
    assert holes.any()
    assert (mask[holes] == IGNORED).all()
    np.testing.assert_array_equal(mask[~holes & (mask != IGNORED)], truth[~holes & (mask != IGNORED)])
    kept = Augmenter(only(**{name: {"fill_mask": None}}))(image, truth, 3)[1]
    np.testing.assert_array_equal(kept, truth)


@pytest.mark.parametrize("name", TONES)
def test_tones_leave_the_labels_alone(name: str) -> None:
    image, truth = crop(3)
    for seed in range(4):
        found, mask = Augmenter(only(**{name: TONES[name]}))(image, truth, seed)
        np.testing.assert_array_equal(mask, truth)
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1


@pytest.mark.parametrize("name", [*MOVES, *TONES, *HOLES])
def test_frames_stay_together_and_the_input_as_it_was(name: str) -> None:
    image, truth = crop(5)
    before = image.copy(), truth.copy()
    found, mask = Augmenter(only(**{name: {**MOVES, **TONES}.get(name, {})}))(image, truth, 1)
    assert (found.shape, mask.shape) == (image.shape, truth.shape)
    assert found.flags.c_contiguous
    assert mask.flags.c_contiguous
    assert not (np.array_equal(found, image) and np.array_equal(mask, truth))
    for frame in found[1:]:
        np.testing.assert_array_equal(frame, found[0])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(truth, before[1])


def test_the_same_seed_makes_the_same_crop_whatever_came_before() -> None:
    config = Augmentation(more={"CLAHE": {"p": 0.5}, "GridDistortion": {"p": 0.5}, "GaussNoise": {}})
    one, other = Augmenter(config), Augmenter(config)
    seen = set()
    for seed in range(12):
        one(*crop(), seed + 100)
        for first, second in zip(one(*crop(3), seed), other(*crop(3), seed), strict=True):
            np.testing.assert_array_equal(first, second)
        seen.add(one(*crop(), seed)[0].tobytes())
    assert len(seen) == 12


def test_one_transform_more_leaves_the_others_as_they_were() -> None:
    both = only(GridDistortion={}, CLAHE={"p": 0})
    np.testing.assert_array_equal(
        Augmenter(both)(*crop(), 5)[0], Augmenter(only(GridDistortion={}))(*crop(), 5)[0]
    )


def test_its_own_probability_counts_and_none_of_it_where_all_is_off() -> None:
    half = Augmenter(only(InvertImg={"p": 0.3}))
    happened = sum(not np.array_equal(half(*crop(), seed)[0], crop()[0]) for seed in range(200))
    assert 35 < happened < 85
    for off in ({"enabled": False}, {"probability": 0}):
        config = Augmentation(orientation=False, more={"InvertImg": {"p": 1}}, **off)
        np.testing.assert_array_equal(Augmenter(config)(*crop(), 0)[0], crop()[0])


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("{Clahe: {}}", "`more.Clahe` is no transform of images in albumentations; did you mean `CLAHE`."),
        ("{GridDistorsion: {p: 1}}", "did you mean `GridDistortion`."),
        ("{Resample: {}}", "no transform of images"),
        ("{CenterCrop3D: {}}", "no transform of images"),
        ("{CLAHE: {clip: 3}}", "`more.CLAHE` takes no `clip`; did you mean `clip_limit`."),
        ("{CLAHE: {zzz: 3}}", "`more.CLAHE` takes no `zzz`; it takes clip_limit, tile_grid_size, p."),
        ("{CLAHE: {strict: false}}", "`more.CLAHE` takes no `strict`"),
        ("{CLAHE: {p: 2}}", "not accepted by albumentations: p: Input should be less than or equal to 1."),
        ("{CLAHE: {clip_limit: .nan}}", "finite numbers, texts and lists"),
        ("{CLAHE: {clip_limit: 2026-01-01}}", "finite numbers, texts and lists"),
        ("{RandomCrop: {}}", "height: Field required"),
        ("{RandomCrop: {height: 64, width: 64}}", "changes the size of a crop"),
        ("{RandomScale: {}}", "changes the size of a crop"),
        ("{RandomFog: {}}", "needs the channels of a colour"),
        ("{ToRGB: {}}", "number of channels"),
        ("{ToGray: {}}", "changes nothing"),
        ("{Normalize: {}}", "out of [0, 1]"),
        ("{FDA: {}}", "saying: FDA requires"),
        ("{TimeMasking: {}}", "writes labels"),
        ("{Affine: {fill_mask: 0}}", "`more.Affine.fill_mask` must be 255"),
        ("{Rotate: {mask_interpolation: 1}}", "`more.Rotate.mask_interpolation` must be 0"),
        ("{PixelDropout: {mask_drop_value: 1}}", "`more.PixelDropout.mask_drop_value` must be null"),
        ("{CLAHE}", "`augmentation.more` is None; it must be a block of settings"),
        ("CLAHE", "it must be a block of settings"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(more: str, sentence: str) -> None:
    with pytest.raises(BadConfig) as refused:
        load_config("test", [f"augmentation.more={more}"])
    text = str(refused.value)
    assert sentence in text
    assert "\n" not in text
    assert "pydantic" not in text


@pytest.mark.filterwarnings("ignore")
def test_whatever_albumentations_has_is_used_rightly_or_refused() -> None:
    usable = []
    for name, kind in vars(albumentations).items():
        if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
            continue
        try:
            check({name: {}})
        except ValueError as refused:
            assert str(refused).startswith(f"`more.{name}`")
            assert "\n" not in str(refused)
            continue
        usable.append(name)
        image, truth = crop(2)
        found, mask = Augmenter(only(**{name: {}}))(image, truth, 0)
        assert (found.shape, found.dtype, mask.dtype) == (image.shape, np.float32, np.uint8), name
        assert set(np.unique(mask)) <= {*LABELS, IGNORED}, name
        assert ((found >= 0) & (found <= 1)).all(), name
        np.testing.assert_array_equal(found[0], found[1], name)
    assert len(usable) > 50


def test_a_failure_on_a_crop_is_a_sentence() -> None:
    small = LibraryTransform("RandomCrop", {"height": 64, "width": 64, "p": 1})
    with pytest.raises(
        UnusableTransform, match=r"`more.RandomCrop` of the augmentation fails on a crop of 20"
    ):
        small(np.zeros((1, 30, 20), np.float32), np.zeros((30, 20), np.uint8), np.random.default_rng(0))


def test_it_is_kept_as_given_and_can_be_read_again(tmp_path: Path) -> None:
    given = {"CLAHE": {"p": 0.2, "clip_limit": [1, 3]}, "GridDistortion": {"p": 0.1}}
    found = resolve("test", [f"augmentation.more={json.dumps(given)}"])
    assert found.config.augmentation.more == given
    assert TrainingConfig.model_validate_json(found.config.model_dump_json()) == found.config
    text = commented(found.config, found.origins)
    preset = tmp_path / "again.yaml"
    preset.write_text(text, encoding="utf-8")
    assert load_config(str(preset)).augmentation.more == given
    assert load_config(str(preset), ["augmentation.more.CLAHE.p=1"]).augmentation.more == {
        **given,
        "CLAHE": {"p": 1, "clip_limit": [1, 3]},
    }
    environment = {"SRPU_TRAINING__AUGMENTATION__MORE": "{CLAHE: {p: 0.3}}"}
    assert load_config("test", (), environment).augmentation.more == {"CLAHE": {"p": 0.3}}


def test_the_preview_shows_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path)
    more = "augmentation.more={CLAHE: {p: 0.01}, GridDistortion: {p: 0}}"
    options = ["--manifest", str(tmp_path / "manifest.json"), "--out", str(tmp_path / "each.png")]
    off = ["augmentation.scale=[1, 1]", "augmentation.orientation=false", "augmentation.noise=0"]
    command = ["augment-preview", *options, "--preset", "test", "--columns", "2", "--each", "--json"]
    assert main([*command, "--set", more, *off]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[-2:] == ["CLAHE", "GridDistortion"]
    assert "noise" not in rows


def test_albumentations_is_imported_only_where_it_is_used_and_asks_nobody_for_updates() -> None:
    code = (
        "import contextlib, os, sys\n"
        "from training.__main__ import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['--help'])\n"
        "from training.config import load_config\n"
        "load_config('test')\n"
        "assert 'albumentations' not in sys.modules\n"
        "load_config('test', ['augmentation.more={CLAHE: {}}'])\n"
        "assert 'albumentations' in sys.modules\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
