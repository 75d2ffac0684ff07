"""How large a pixel is on the specimen, as far as the microscope wrote it down.

In the TIFF: FEI and Thermo Fisher (tags 34680 and 34682), Zeiss (34118), ImageJ's description, or resolution
tags that say something only a microscope would. In a file beside the image: JEOL and Hitachi (.txt), TESCAN
(.hdr). A picture that was scaled or converted after it was taken has usually lost all of them.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tifffile import TiffFile, TiffFileError

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError

_NANOMETRES = {
    "pm": 1e-3,
    "nm": 1.0,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
}
_SMALLEST, _LARGEST = 1e-3, 1e5  # nm: beyond lies no electron micrograph
_LARGEST_BY_RESOLUTION = 1e4  # nm: coarser resolution tags speak of printing (2540 dpi is 1e4 nm)
_MOST_BYTES = 1 << 20  # of a file beside the image
_FEI = ("FEI_HELIOS", "FEI_SFEG")
_FEI_SECTIONS = ("Scan", "EScan", "IScan", "EBeam")
_ZEISS = ("ap_image_pixel_size", "ap_pixel_size")
_UNREADABLE = (TiffFileError, OSError, ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What tifffile raises for files that are none, or damaged."""
_NUMBER = r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)"


class BadPixelSize(SRPUError):
    """A pixel size that cannot be understood."""


class PixelSize(Frozen):
    """Side of a pixel on the specimen; pixels are square."""

    nanometres: float
    source: str
    """Where it stands, such as `Zeiss`."""


def parse_pixel_size(text: str) -> PixelSize:
    """`2.5nm`, `0.01 um` or `2.5` (nm), as a person writes it; raises `BadPixelSize`."""
    found = re.fullmatch(rf"\s*{_NUMBER}\s*([a-zA-Zµμ]*)\s*", text)
    size = _in_nanometres(found[1], found[2] or "nm") if found else None
    if size is None:
        raise BadPixelSize(f"{text!r} is not a pixel size; write a length such as 2.5nm or 0.01um.")
    return PixelSize(nanometres=size, source="given")


def read_pixel_size(path: Path) -> PixelSize | None:
    """The pixel size of an image file, or None where nothing tells it; never raises for a file's content."""
    for source, size in _candidates(path):
        if size is not None:
            return PixelSize(nanometres=size, source=source)
    return None


def _candidates(path: Path) -> Iterator[tuple[str, float | None]]:
    if path.suffix.lower() in (".tif", ".tiff"):
        yield from _of_tiff(path)
    yield from _of_neighbours(path)


def _of_tiff(path: Path) -> Iterator[tuple[str, float | None]]:
    try:
        with TiffFile(path) as file:
            page: Any = file.pages[0]
            tags = {tag.name: tag.value for tag in page.tags.values()}
            imagej = file.imagej_metadata or {}
    except _UNREADABLE:
        return
    for name in _FEI:
        yield "FEI", _of_fei(tags.get(name))
    yield "Zeiss", _of_zeiss(tags.get("CZ_SEM"))
    per_unit = _per_unit(tags.get("XResolution"))
    if imagej and per_unit:
        yield "ImageJ", _in_nanometres(1 / per_unit, imagej.get("unit", ""))
    yield "resolution tag", _of_resolution(per_unit, tags.get("ResolutionUnit"))


def _of_fei(tag: Any) -> float | None:
    if not isinstance(tag, Mapping):
        return None
    widths = (tag[name].get("PixelWidth") for name in _FEI_SECTIONS if isinstance(tag.get(name), Mapping))
    return next((size for size in (_in_nanometres(width, "m") for width in widths) if size), None)


def _of_zeiss(tag: Any) -> float | None:
    if not isinstance(tag, Mapping):
        return None
    entries = (tag.get(name) for name in _ZEISS)
    lengths = (entry for entry in entries if isinstance(entry, tuple) and len(entry) == 3)
    return next((size for size in (_in_nanometres(entry[1], entry[2]) for entry in lengths) if size), None)


def _of_resolution(per_unit: float | None, unit: Any) -> float | None:
    length = {2: 25.4e6, 3: 1e7}.get(int(unit)) if isinstance(unit, int) else None
    if per_unit is None or length is None:
        return None
    size = length / per_unit
    return size if _SMALLEST <= size < _LARGEST_BY_RESOLUTION else None


def _per_unit(value: Any) -> float | None:
    if not (
        isinstance(value, tuple) and len(value) == 2 and all(isinstance(n, int) and n > 0 for n in value)
    ):
        return None
    return float(value[0] / value[1])


def _of_neighbours(path: Path) -> Iterator[tuple[str, float | None]]:
    """`alloy.txt` and `alloy.hdr` beside `alloy.tif`."""
    text = _text(path.with_suffix(".txt"))
    bar = re.search(rf"^\$\$SM_MICRON_BAR\s+{_NUMBER}", text, re.MULTILINE)
    marker = re.search(rf"^\$\$SM_MICRON_MARKER\s+{_NUMBER}\s*([a-zA-Zµμ]+)", text, re.MULTILINE)
    if bar and marker and float(bar[1]) > 0:
        length = _in_nanometres(marker[1], marker[2])
        yield "JEOL", None if length is None else length / float(bar[1])
    hitachi = re.search(rf"^PixelSize\s*=\s*{_NUMBER}", text, re.MULTILINE)
    yield "Hitachi", _in_nanometres(hitachi[1], "nm") if hitachi else None
    tescan = re.search(rf"^PixelSizeX\s*=\s*{_NUMBER}", _text(path.with_suffix(".hdr")), re.MULTILINE)
    yield "TESCAN", _in_nanometres(tescan[1], "m") if tescan else None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ""
        content = path.read_bytes()
    except OSError:
        return ""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return content.decode(encoding, errors="replace").replace("\r\n", "\n")


def _in_nanometres(value: Any, unit: Any) -> float | None:
    """A length in nm, or None where it is none that an electron micrograph could have."""
    plain = str(unit).strip().replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u").lower()
    try:
        size = float(value) * _NANOMETRES[plain]
    except (KeyError, TypeError, ValueError):
        return None
    return size if math.isfinite(size) and _SMALLEST <= size <= _LARGEST else None
