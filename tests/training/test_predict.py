"""`predict`, as a person uses it: folders of anything in, a mask for each image out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from micrographs import picture
from numpy.typing import NDArray

from model_zoo.card import ModelSpec, Normalisation
from model_zoo.inference import Predictor
from tests.model_zoo.model_folders import TINY, write_model
from training.__main__ import main
from training.data.classes_file import read_classes
from training.data.masks import read_mask
from training.data.micrograph import read_micrograph

Predict = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = ModelSpec(encoder="tu-test_resnet", classes=3, options=TINY)
    return write_model(tmp_path_factory.mktemp("model"), spec, tile=64)


@pytest.fixture
def predict(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Predict:
    """Run it on `tmp_path/images` into `tmp_path/masks`; returns the summary."""

    def run(*more: str, also: tuple[Path, ...] = (), of: Path = model) -> dict[str, Any]:
        arguments = ["--model", str(of), "--images", str(tmp_path / "images"), *map(str, also)]
        arguments += ["--out", str(tmp_path / "masks"), "--threads", "1", "--json", *more]
        assert main(["predict", *arguments]) == 0
        return dict(json.loads(capsys.readouterr().out))

    return run


def save(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def found(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def test_each_image_of_any_kind_gets_a_mask_where_it_lies(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    grey = picture(1)[0]
    images = tmp_path / "images"
    save(images / "grey.png", grey)
    save(images / "deep" / "sixteen.tif", grey.astype(np.uint16) * 257)
    save(images / "deep" / "colour.bmp", np.repeat(grey[..., None], 3, axis=2))
    save(images / "grey_mask.png", np.zeros_like(grey))
    (images / "notes.txt").write_text("not an image")
    summary = predict()
    assert found(tmp_path / "masks") == {"grey.png", "deep/sixteen.png", "deep/colour.png"}
    expected = Predictor.load(model, threads=1).predict(grey).class_map
    for name in found(tmp_path / "masks"):
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / name), expected)
    assert summary["images"] == 3
    assert sum(summary["classes"].values()) == pytest.approx(1)
    assert summary["classes"]["class 1"] == pytest.approx((expected == 1).mean())
    assert [info.name for info in read_classes(tmp_path / "masks" / "classes.json").classes] == [
        "class 0",
        "class 1",
        "class 2",
    ]


def test_two_images_of_one_name_are_both_kept(predict: Predict, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("a.png", "A.tif", "b.png"):
        save(images / name, picture(1)[0])
    other = save(tmp_path / "others" / "b.png", picture(2)[0])
    assert predict(also=(other,))["images"] == 4
    assert found(tmp_path / "masks") == {"a.png.png", "A.tif.png", "b.png.png", "b.png-2.png"}


def test_overlays_and_probabilities_lie_beside_the_masks(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    image = save(tmp_path / "images" / "sub" / "a.png", picture(1, (200, 180))[0])
    predict("--overlays", "--probabilities")
    masks = tmp_path / "masks"
    folder = "probabilities/sub/a"
    maps = [f"{folder}/{index}-class_{index}.png" for index in range(3)]
    assert found(masks) == {"sub/a.png", "overlays/sub/a.png", *maps}
    assert cv2.imread(str(masks / "overlays/sub/a.png")).shape == (200, 180, 3)
    expected = Predictor.load(model, threads=1).predict(read_micrograph(image)).probabilities
    written = np.stack([read_micrograph(masks / name) for name in maps])
    np.testing.assert_allclose(written / 255, expected, atol=0.5 / 255 + 1e-6)


def test_an_unreadable_image_is_left_out_and_named(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    save(tmp_path / "images" / "good.png", picture(1)[0])
    bad = tmp_path / "images" / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    summary = predict()
    assert found(tmp_path / "masks") == {"good.png"}
    assert list(summary["left_out"]) == [str(bad)]
    (tmp_path / "images" / "good.png").unlink()
    arguments = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "masks")]
    assert main(["predict", "--model", str(model), *arguments]) == 2
    assert "None of 1 images could be predicted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "out", "said"),
    [
        ("nowhere", "masks", "does not exist; give a folder of images"),
        ("empty", "masks", "There is no image in"),
        ("images", "images", "would overwrite an image"),
        ("reserved", "masks", "subfolder called overlays"),
    ],
)
def test_bad_folders_are_refused(
    images: str, out: str, said: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    image = save(tmp_path / "images" / "a.png", picture(1)[0])
    before = image.read_bytes()
    save(tmp_path / "reserved" / "overlays" / "a.png", picture(1)[0])
    arguments = ["--images", str(tmp_path / images), "--out", str(tmp_path / out)]
    assert main(["predict", "--model", str(model), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert image.read_bytes() == before


def test_resume_predicts_what_is_new_changed_or_of_another_model(
    predict: Predict, model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    for number in range(3):
        save(images / f"{number}.png", picture(number)[0])
    first = predict("--resume")
    assert (first["images"], first["resumed"]) == (3, 0)
    again = predict("--resume")
    assert (again["resumed"], again["classes"]) == (3, first["classes"])
    save(images / "0.png", picture(7, (50, 50))[0])
    save(images / "new.png", picture(8)[0])
    (tmp_path / "masks" / "1.png").unlink()
    assert predict("--resume")["resumed"] == 1
    assert predict("--resume", "--overlays")["resumed"] == 0
    assert predict()["resumed"] == 0
    other = write_model(tmp_path / "other", ModelSpec(encoder="tu-test_resnet", classes=2, options=TINY))
    assert predict("--resume", of=other)["resumed"] == 0
    assert predict("--resume")["resumed"] == 0


def test_a_model_of_several_frames_looks_at_the_neighbours_by_name(predict: Predict, tmp_path: Path) -> None:
    spec = ModelSpec(encoder="tu-test_resnet", classes=3, input_depth=3, options=TINY)
    deep = write_model(tmp_path / "deep", spec, tile=64)
    frames = [picture(number)[0] for number in range(3)]
    for number, frame in enumerate(frames):
        save(tmp_path / "images" / f"4.2V-{number:03}.png", frame)
    save(tmp_path / "images" / "other" / "4.2V-003.png", picture(9)[0])
    predict(of=deep)
    predictor = Predictor.load(deep, threads=1)
    for name, stack in (("4.2V-001", frames), ("4.2V-000", [frames[0], frames[0], frames[1]])):
        expected = predictor.predict(np.stack(stack)).class_map
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / f"{name}.png"), expected)


@pytest.mark.parametrize("kind", ["percentile", "range"])
def test_bands_say_what_the_whole_says(kind: str, model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    predictor = Predictor.load(folder, threads=1)
    how = Normalisation.model_validate({"kind": kind})
    predictor.card = predictor.card.model_copy(update={"normalisation": how})
    image = picture(3, (330, 270))[0]
    whole = predictor.predict(image)
    bands = list(predictor.bands(image))
    assert len(bands) > 2
    assert max(band.probabilities.shape[1] for band in bands) <= 64
    np.testing.assert_array_equal(predictor.class_map(image), whole.class_map)
