"""TIFF as electron microscopes write it: the first page, with every number type they use.

tifffile reads the header and what is uncompressed. It would inflate a strip without a bound, and reads
neither LZW nor JPEG; libtiff, through Pillow and OpenCV, reads those and never more than the header says.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import COMPRESSION, PHOTOMETRIC, SAMPLEFORMAT, TiffFile, TiffPage

from training.data.grey import grey_of, grey_of_pillow

Array = npt.NDArray[Any]
_ORIENTATION = 274
_MAX_SAMPLES = 4


def size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the first page as it is shown; reads the header. Raises `ValueError`."""
    page = _first_page(file)
    width, height = int(page.imagewidth), int(page.imagelength)
    return (height, width) if _orientation(page) >= 5 else (width, height)


def grey(file: BinaryIO, file_bytes: int) -> Array:
    """uint8 or uint16 `(H, W)` of the first page. Raises `ValueError` or `OSError` with the reason."""
    page = _first_page(file)
    _check_whole(page, file_bytes)
    if page.compression == COMPRESSION.NONE:
        return oriented(_uncompressed(page), _orientation(page))
    file.seek(0)
    if page.bitspersample == 64 or (page.bitspersample == 16 and page.samplesperpixel > 1):
        return oriented(_through_opencv(file), _orientation(page))
    return _through_pillow(file, page)


def oriented(pixels: Array, orientation: int) -> Array:
    """Turn and mirror `(H, W)` as tag 274 of TIFF 6.0 and EXIF says; 1 and the unknown change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.T
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _first_page(file: BinaryIO) -> TiffPage:
    file.seek(0)
    pages = TiffFile(file).pages
    if not len(pages):
        raise ValueError("it has no page")
    page = pages[0]
    if page.imagedepth != 1 or page.samplesperpixel > _MAX_SAMPLES:
        raise ValueError(
            f"its first page has {page.samplesperpixel} channels, depth {page.imagedepth}; save one channel"
        )
    return page


def _check_whole(page: TiffPage, file_bytes: int) -> None:
    """Every strip must lie within the file, and uncompressed ones must fill the image.

    Without this a decoder would set aside memory for what the header promises.
    """
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not segments or any(offset + count > file_bytes for offset, count in segments):
        raise ValueError("it is cut short")
    if page.compression == COMPRESSION.NONE:
        bits = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample
        if sum(page.databytecounts) * 8 < bits:
            raise ValueError("it is cut short")


def _uncompressed(page: TiffPage) -> Array:
    pixels = page.asarray()
    if page.samplesperpixel > 1 and pixels.shape[0] == page.samplesperpixel != pixels.shape[-1]:
        pixels = np.moveaxis(pixels, 0, -1)  # planes stored one after another
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        return _through_palette(pixels, page.colormap)
    grey = grey_of(pixels)
    return _inverted(grey) if page.photometric == PHOTOMETRIC.MINISWHITE else grey


def _through_palette(indices: Array, colormap: Array) -> Array:
    """Grey through the map's colours, `(3, n)` uint16; Zeiss microscopes store a ramp of grey this way."""
    colors = colormap.T
    if colors.max() > 255:  # some writers forget that the map has 16 bits
        colors = colors >> 8
    return grey_of(colors[indices].astype(np.uint8))


def _through_pillow(file: BinaryIO, page: TiffPage) -> Array:
    """Decoded by libtiff, and turned as the orientation tag says. Pillow takes signed numbers for others."""
    with TiffImageFile(file) as image:
        image.load()
        if page.samplesperpixel > 1 or page.photometric == PHOTOMETRIC.PALETTE:
            return grey_of_pillow(image)
        signed = page.sampleformat == SAMPLEFORMAT.INT and page.bitspersample in (8, 16)
        as_stored = np.asarray(image).astype(f"i{page.bitspersample // 8}") if signed else None
        grey = grey_of_pillow(image) if as_stored is None else grey_of(as_stored)
        by_pillow = image.mode in ("1", "L")
    return _inverted(grey) if page.photometric == PHOTOMETRIC.MINISWHITE and not by_pillow else grey


def _inverted(grey: Array) -> Array:
    return np.iinfo(grey.dtype).max - grey


def _through_opencv(file: BinaryIO) -> Array:
    """For what Pillow cuts down (colour of 16 bits) or does not know (doubles)."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)
    if pixels is None:
        raise ValueError("its strips cannot be decoded")
    return grey_of(pixels if pixels.ndim == 2 else bgr_reversed(pixels))


def bgr_reversed(pixels: Array) -> Array:
    """OpenCV's BGR or BGRA `(H, W, C)` as RGB or RGBA."""
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1
