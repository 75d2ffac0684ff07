"""Pixel sizes are read from what each maker's microscope writes, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from training.data.pixel_size import BadPixelSize, parse_pixel_size, read_pixel_size

pytestmark = pytest.mark.fast
PIXELS = np.zeros((16, 16), np.uint8)
ZEISS = "0\r\n0\r\n3.59e-008\r\nAP_WD\r\nWD = 5.1 mm\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = {} {}\r\n"


def tagged(folder: Path, tag: int, text: str) -> Path:
    path = folder / "image.tif"
    content = text.encode("latin-1")
    tifffile.imwrite(path, PIXELS, extratags=[(tag, "s", len(content) + 1, content, True)])
    return path


@pytest.mark.parametrize("tag", [34680, 34682])
@pytest.mark.parametrize("section", ["Scan", "EScan"])
def test_fei_says_it_in_metres(tmp_path: Path, tag: int, section: str) -> None:
    text = (
        f"[User]\r\nDate=01/02/2024\r\n[{section}]\r\nPixelWidth=1.68619e-009\r\nPixelHeight=1.68619e-009\r\n"
    )
    found = read_pixel_size(tagged(tmp_path, tag, text))
    assert found is not None
    assert (found.nanometres, found.source) == (pytest.approx(1.68619), "FEI")


@pytest.mark.parametrize(("number", "unit", "expected"), [("35.94", "nm", 35.94), ("1.2", "\xb5m", 1200)])
def test_zeiss_says_it_with_a_unit(tmp_path: Path, number: str, unit: str, expected: float) -> None:
    found = read_pixel_size(tagged(tmp_path, 34118, ZEISS.format(number, unit)))
    assert found is not None
    assert (found.nanometres, found.source) == (pytest.approx(expected), "Zeiss")


@pytest.mark.parametrize(("unit", "expected"), [("nm", 4), ("micron", 4000), ("\\u00B5m", 4000)])
def test_imagej_says_it_in_its_description(tmp_path: Path, unit: str, expected: float) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(0.25, 0.25), metadata={"unit": unit})
    found = read_pixel_size(path)
    assert found is not None
    assert (found.nanometres, found.source) == (pytest.approx(expected, rel=1e-3), "ImageJ")


def test_resolution_tags_count_where_only_a_microscope_is_that_fine(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS, resolution=(4e6, 4e6), resolutionunit="CENTIMETER")
    found = read_pixel_size(path)
    assert found is not None
    assert found.nanometres == pytest.approx(2.5)
    for dpi in (72, 300, 600):
        tifffile.imwrite(path, PIXELS, resolution=(dpi, dpi), resolutionunit="INCH")
        assert read_pixel_size(path) is None


@pytest.mark.parametrize(
    ("suffix", "text", "expected", "maker"),
    [
        (".txt", "$CM_MAG 5000\n$$SM_MICRON_BAR 120\n$$SM_MICRON_MARKER 3um\n", 25, "JEOL"),
        (".txt", "[SemImageFile]\r\nImageName=a.tif\r\nPixelSize=4.960938\r\n", 4.960938, "Hitachi"),
        (".hdr", "[MAIN]\nMagnification=1000\nPixelSizeX=1.5e-8\nPixelSizeY=1.5e-8\n", 15, "TESCAN"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_beside_the_image_is_read(
    tmp_path: Path, suffix: str, text: str, expected: float, maker: str, encoding: str
) -> None:
    (tmp_path / f"image{suffix}").write_bytes(text.encode(encoding))
    found = read_pixel_size(tmp_path / "image.bmp")
    assert found is not None
    assert (found.nanometres, found.source) == (pytest.approx(expected), maker)


@pytest.mark.parametrize(
    "content", ["PixelSize=0", "PixelSize=-3", "PixelSize=1e99", "PixelSize=nan", "…", ""]
)
def test_nonsense_is_no_pixel_size(tmp_path: Path, content: str) -> None:
    (tmp_path / "image.txt").write_text(content, encoding="utf-8")
    (tmp_path / "image.tif").write_bytes(b"II*\x00" + content.encode())
    assert read_pixel_size(tmp_path / "image.tif") is None


@pytest.mark.parametrize(("text", "expected"), [("2.5nm", 2.5), ("0.01 um", 10), ("3", 3), ("1e-2µm", 10)])
def test_people_write_it_as_they_like(text: str, expected: float) -> None:
    assert parse_pixel_size(text).nanometres == pytest.approx(expected)


@given(st.text(max_size=12))
def test_what_is_no_length_is_refused_in_one_sentence(text: str) -> None:
    try:
        assert parse_pixel_size(text).nanometres > 0
    except BadPixelSize as error:
        assert str(error).endswith("such as 2.5nm or 0.01um.")
