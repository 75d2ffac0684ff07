"""What browsers show in place of TIFF and 16-bit images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from srpu_backend.proxies import proxy_of, stretched
from training.data.micrograph import BadImage

pytestmark = pytest.mark.fast


def ramp(dtype: type[np.generic], low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, 64 * 48).reshape(48, 64).astype(dtype)


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp"])
def test_what_browsers_show_needs_no_proxy(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    cv2.imwrite(str(path), ramp(np.uint8, 0, 255))
    assert proxy_of(path) is None


def test_an_8_bit_tiff_is_shown_exactly(tmp_path: Path) -> None:
    pixels = ramp(np.uint8, 10, 90)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    png = proxy_of(tmp_path / "a.tif")
    assert png is not None
    assert (decoded(png) == pixels).all()


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_16_bits_fill_the_range_at_equal_size(tmp_path: Path, name: str) -> None:
    pixels = ramp(np.uint16, 1000, 3000)
    pixels[0, 0] = 65535  # a hot pixel must not darken all others
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, pixels)
    else:
        cv2.imwrite(str(tmp_path / name), pixels)
    png = proxy_of(tmp_path / name)
    assert png is not None
    shown = decoded(png)
    assert shown.dtype == np.uint8
    assert shown.shape == pixels.shape
    assert (shown.min(), shown.max()) == (0, 255)
    assert abs(float(np.median(shown)) - 127.5) < 2


def test_a_tiff_that_calls_itself_png_is_proxied(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(np.uint8, 0, 255))
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    assert proxy_of(tmp_path / "a.png") is not None


@pytest.mark.parametrize("value", [0, 700, 65535])
def test_an_image_of_one_grey_is_no_error(value: int) -> None:
    shown = stretched(np.full((4, 5), value, np.uint16))
    assert shown.shape == (4, 5)
    assert len(np.unique(shown)) == 1


def test_stretching_keeps_the_order_of_greys() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (50, 60)).astype(np.uint16)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(stretched(pixels).ravel()[order].astype(int)) >= 0).all()


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(BadImage, match=r"a\.png is a text file"):
        proxy_of(tmp_path / "a.png")
