"""Pixels of a micrograph, whatever the microscope wrote: `(H, W)` grey, 8 or 16 bit.

The format is told by the first bytes, never by the file's name, and only PNG, JPEG, TIFF and BMP are ever
handed to a decoder. Size and pixel bounds are checked on the header, before anything is decoded. Decoders are
called by class and not through `PIL.Image.open`, whose bomb check warns, raises and is a process-wide switch.

What becomes grey: colour by ITU-R BT.601 luma (exact where R = G = B), transparency over black, palettes
through their colours, minimum-is-white inverted, signed integers shifted to unsigned, 32-bit and float
stretched over the range of their finite values to uint16. Of several pages the first counts. Orientation tags
are obeyed, as browsers do, so that masks drawn in a browser lie where they were drawn.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from model_zoo.errors import SRPUError
from training.data import tiff
from training.data.grey import grey_of, grey_of_pillow

Array = npt.NDArray[Any]
Source = Path | bytes
Format = Literal["png", "jpeg", "tiff", "bmp"]

_HEAD_BYTES = 512
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"BM", "bmp"),
)
_PLUGINS: dict[Format, type[ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile, "bmp": BmpImageFile}
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,  # what Pillow's plugins raise for a malformed header
    EOFError,
    IndexError,  # … and what header parsers let through when a field points nowhere
    KeyError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
    cv2.error,
    MemoryError,
)
"""How decoders say that the bytes are not what their header promised."""


class BadImage(SRPUError):
    """Something that should be a micrograph and is not, or is too large to be read."""


@dataclass(frozen=True)
class Limits:
    """What we are willing to read."""

    max_bytes: int = 512 * 2**20
    """Of the file."""
    max_pixels: int = 20_000 * 20_000
    """Width × height."""

    def check(self, name: str, file_bytes: int, size: tuple[int, int]) -> None:
        """Raise `BadImage` when a file of `file_bytes` with an image of (width, height) px is beyond them."""
        if file_bytes > self.max_bytes:
            raise BadImage(
                f"{name} has {file_bytes} bytes, more than the {self.max_bytes} allowed; "
                "make it smaller or raise the limit."
            )
        width, height = size
        if width * height > self.max_pixels:
            raise BadImage(
                f"{name} has {width} × {height} px, more than the {self.max_pixels} px allowed; "
                "crop it or raise the limit."
            )


def read_micrograph(source: Source, limits: Limits | None = None, name: str = "") -> Array:
    """Decode the image in a file or in bytes to grey: uint8 or uint16 `(H, W)`, see the module's text.

    `name` is what messages call it, in place of its path.
    Raises `BadImage`, one sentence, when there is none, it is damaged or cut short, or it exceeds `limits`.
    """
    with _opened(source, name) as (file, name, file_bytes):
        kind = _format(file, name)
        (limits or Limits()).check(name, file_bytes, _size(file, kind, name))
        file.seek(0)
        try:
            return tiff.grey(file, file_bytes) if kind == "tiff" else _raster(file, kind)
        except _BROKEN as error:
            raise _broken(name, kind, error) from None


def image_size(source: Source, name: str = "") -> tuple[int, int]:
    """(width, height) in px as `read_micrograph` returns it, from the header alone; raises `BadImage`."""
    with _opened(source, name) as (file, name, _):
        return _size(file, _format(file, name), name)


def image_format(source: Source, name: str = "") -> Format:
    """Which of the formats we read this is, by its first bytes; raises `BadImage` for anything else."""
    with _opened(source, name) as (file, name, _):
        return _format(file, name)


@contextmanager
def _opened(source: Source, name: str) -> Iterator[tuple[BinaryIO, str, int]]:
    """The source as a seekable file, the name to call it by, and its size in bytes."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), name or "The image", len(source)
        return
    name = name or str(source)
    try:
        if not source.is_file():  # nor a device or a pipe, which may never end
            what = "is a folder" if source.is_dir() else "does not exist"
            raise BadImage(f"{name} {what}; give the path of an image.")
        file = source.open("rb")
        file_bytes = source.stat().st_size
    except (OSError, ValueError) as error:
        raise BadImage(f"{name} cannot be opened ({error}).") from None
    with file:
        yield file, name, file_bytes


def _format(file: BinaryIO, name: str) -> Format:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    raise BadImage(f"{name} {_what_instead(head)}; use PNG, JPEG or TIFF.")


def _what_instead(head: bytes) -> str:
    if not head:
        return "is empty"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a web page (perhaps a login page), not an image"
    if b"<svg" in text:
        return "is an SVG drawing, which has no pixels"
    printable = sum(byte >= 32 or byte in (9, 10, 13) for byte in head)
    if printable == len(head) and not head.startswith((b"GIF8", b"RIFF", b"%PDF")):
        return "is a text file, not an image"
    return "is not an image of a known format"


def _size(file: BinaryIO, kind: Format, name: str) -> tuple[int, int]:
    try:
        if kind == "tiff":
            width, height = tiff.size(file)
        else:
            with _PLUGINS[kind](file) as image:
                width, height = image.size
                if _exif_orientation(image) >= 5:
                    width, height = height, width
    except _BROKEN as error:
        raise _broken(name, kind, error) from None
    if width <= 0 or height <= 0:
        raise BadImage(f"{name} is a {kind.upper()} without pixels.")
    return width, height


def _raster(file: BinaryIO, kind: Format) -> Array:
    if _is_deep_colour(file, kind):
        return _deep_colour(file)
    file.seek(0)
    with _PLUGINS[kind](file) as image:
        return tiff.oriented(grey_of_pillow(image), _exif_orientation(image))


def _is_deep_colour(file: BinaryIO, kind: Format) -> bool:
    """A PNG of 16 bits with more than one channel, which Pillow would cut down to 8 bits."""
    file.seek(0)
    header = file.read(26)
    return kind == "png" and header[24] == 16 and header[25] != 0


def _deep_colour(file: BinaryIO) -> Array:
    file.seek(0)
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its pixels are cut short or damaged")
    return grey_of(tiff.bgr_reversed(pixels))


def _exif_orientation(image: ImageFile) -> int:
    """Orientation of a JPEG, 1 where EXIF is missing or broken.

    Read by hand: Pillow's reader warns about the many cameras that write EXIF wrongly.
    """
    exif = image.info.get("exif", b"")
    if not isinstance(image, JpegImageFile) or exif[:6] != b"Exif\0\0":
        return 1
    body = exif[6:]
    order = "<" if body[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(order + "I", body, 4)
        (entries,) = struct.unpack_from(order + "H", body, start)
        for index in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", body, start + 2 + 12 * index)
            if tag == 274 and kind == 3 and 1 <= value <= 8:
                return int(value)
    except struct.error:
        return 1
    return 1


def _broken(name: str, kind: Format, error: Exception) -> BadImage:
    reason = "not enough memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__
    reason = reason.rstrip(".")
    return BadImage(f"{name} is a damaged or unsupported {kind.upper()} and cannot be read: {reason}.")
