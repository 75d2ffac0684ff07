"""Fractions and sizes are those of shapes whose size is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, ModelSpec
from tests.model_zoo.model_folders import TINY, write_model
from training.__main__ import main
from training.data.masks import write_mask
from training.measuring.particles import find_particles, measure_classes

CLASSES = (ClassInfo(name="matrix"), ClassInfo(name="pore", color="#4363d8"))


def discs(*circles: tuple[int, int, int], side: int = 200) -> NDArray[np.uint8]:
    """Class 1 in circles of (x, y, radius)."""
    mask = np.zeros((side, side), np.uint8)
    for x, y, radius in circles:
        cv2.circle(mask, (x, y), radius, 1, -1)
    return mask


@pytest.mark.fast
def test_a_disc_has_its_diameter_and_its_place() -> None:
    (particle,) = find_particles(discs((60, 90, 25)), CLASSES)
    assert particle.diameter == pytest.approx(50, abs=1)
    assert (particle.x, particle.y) == (60, 90)
    assert particle.aspect_ratio == pytest.approx(1, abs=0.02)
    assert not particle.touches_edge


@pytest.mark.fast
def test_an_ellipse_has_its_aspect_ratio_in_any_direction() -> None:
    for angle in (0, 30, 90, 135):
        mask = np.zeros((200, 200), np.uint8)
        cv2.ellipse(mask, (100, 100), (60, 20), angle, 0, 360, 1, -1)
        (particle,) = find_particles(mask, CLASSES)
        assert particle.aspect_ratio == pytest.approx(3, rel=0.05)


@pytest.mark.fast
def test_diameters_are_by_number_and_cut_particles_have_none() -> None:
    mask = discs((30, 30, 5), (80, 30, 10), (140, 30, 20), (100, 199, 30))
    particles = find_particles(mask, CLASSES)
    matrix, pore = measure_classes(mask, CLASSES, particles)
    assert (pore.particles, pore.at_the_edge, matrix.particles) == (4, 1, 0)
    assert pore.d50 == pytest.approx(20, abs=1)
    assert pore.area_fraction == np.count_nonzero(mask) / mask.size
    assert matrix.area_fraction + pore.area_fraction == pytest.approx(1)


@pytest.mark.fast
def test_specks_count_for_the_area_alone_and_ignored_pixels_for_nothing() -> None:
    mask = discs((100, 100, 20))
    mask[10, 10] = 1
    mask[:, 150:] = 255
    _, pore = measure_classes(mask, CLASSES, find_particles(mask, CLASSES))
    assert pore.particles == 1
    assert pore.area_fraction == np.count_nonzero(mask == 1) / (200 * 150)
    assert len(find_particles(mask, CLASSES, smallest=1)) == 2


@pytest.mark.fast
def test_a_picture_without_anything_has_no_sizes() -> None:
    empty = np.full((20, 20), 255, np.uint8)
    _, pore = measure_classes(empty, CLASSES, find_particles(empty, CLASSES))
    assert (pore.area_fraction, pore.d50) == (0, None)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.json").write_text(json.dumps(["matrix", "pore"]))
    noise = np.random.default_rng(0).integers(50, 200, (200, 200), np.uint8)
    for name, size in (("a", 2.0), ("b", 4.0)):
        bar = noise.copy()
        bar[-20:] = 0  # an info bar
        tifffile.imwrite(
            tmp_path / "images" / f"{name}.tif",
            bar,
            imagej=True,
            resolution=(1 / size, 1 / size),
            metadata={"unit": "nm"},
        )
        write_mask(tmp_path / "masks" / f"{name}.png", discs((90, 90, 20)), CLASSES)
    return tmp_path


@pytest.mark.fast
def test_the_command_writes_tables_and_a_figure(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folders / "measured"
    asked = ["measure", "--masks", str(folders / "masks"), "--images", str(folders / "images")]
    assert main([*asked, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    pore = summary["classes"][1]
    assert (summary["pictures"], summary["with_pixel_size"], pore["particles"]) == (2, 2, 2)
    assert pore["d50_px"] == pytest.approx(40, abs=1)
    assert pore["d50_nm"] == pytest.approx(3 * pore["d50_px"])
    rows = list(csv.DictReader((out / "pictures.csv").read_text().splitlines()))
    assert [(row["picture"], row["class"]) for row in rows] == [
        ("a", "matrix"),
        ("a", "pore"),
        ("b", "matrix"),
        ("b", "pore"),
    ]
    assert int(rows[0]["area_px"]) + int(rows[1]["area_px"]) == 200 * 180  # without the bar
    particles = list(csv.DictReader((out / "particles.csv").read_text().splitlines()))
    assert float(particles[1]["diameter_nm"]) == pytest.approx(
        4 * float(particles[1]["diameter_px"]), rel=1e-4
    )
    assert cv2.imread(str(out / "measurements.png")) is not None


@pytest.mark.fast
def test_what_cannot_be_measured_is_named(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "masks" / "broken.png").write_bytes(b"no picture")
    asked = ["measure", "--masks", str(folders / "masks"), "--out", str(folders / "measured")]
    assert main([*asked, "--pixel-size", "10nm"]) == 0
    said = capsys.readouterr()
    assert "broken is left out" in said.err
    assert "the pixel size of 2 is known" in said.out
    (folders / "empty").mkdir()
    empty = ["measure", "--masks", str(folders / "empty"), "--out", str(folders / "measured")]
    assert main(empty) == 2
    assert "give index PNGs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_makes_the_masks_it_is_to_be_measured_by(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec(encoder="tu-test_resnet", classes=2, options=TINY)
    write_model(tmp_path / "model", spec, tile=128)
    asked = ["measure", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "measured")]
    assert main(asked) == 2
    assert "needs images" in capsys.readouterr().err
    for _ in "once", "again":
        assert main([*asked, "--images", str(folders / "images"), "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["pictures"], summary["with_pixel_size"]) == (2, 2)
    assert sorted(path.name for path in (tmp_path / "measured" / "masks").glob("*.png")) == ["a.png", "b.png"]
