"""The file that says which classes a dataset has: `classes.json`, or the same in YAML.

All of these are understood:

    {"classes": [{"index": 0, "name": "matrix", "color": "#000000"}, …], "ignore_index": 255,
     "ignore_color": "#ffffff"}
    ["matrix", "pore"]                     names in the order of their indices
    {matrix: "#000000", pore: red}         names and colours in the order of their indices

A class named `ignore` (or `void`, `unlabeled`) is no class but gives the colour and index to be ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import ImageColor

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError
from training.data.manifest import IGNORE_INDEX

Color = tuple[int, int, int]
FILE_NAMES = ("classes.json", "classes.yaml", "classes.yml")
IGNORE_NAMES = frozenset({"ignore", "ignored", "void", "unlabeled", "unlabelled"})
_TINTS = ("#000000", "#e6194b", "#4363d8", "#3cb44b", "#ffe119", "#f58231", "#911eb4", "#42d4f4")
_EXAMPLE = '{"classes": [{"index": 0, "name": "matrix", "color": "#000000"}, {"index": 1, "name": "pore"}]}'


class BadClasses(SRPUError):
    """A file of classes that cannot be read or contradicts itself."""


@dataclass(frozen=True)
class ClassList:
    """The classes in the order of their indices, and what is not to be learnt from."""

    classes: tuple[ClassInfo, ...]
    ignore_index: int = IGNORE_INDEX
    """The value in index masks that means ignore, beside 255."""
    ignore_color: Color | None = None
    """The colour in colour masks that means ignore."""

    @property
    def colors(self) -> tuple[Color, ...]:
        """RGB of each class."""
        return tuple(rgb(info.color) for info in self.classes)


def read_classes(path: Path) -> ClassList:
    """Read a JSON or YAML file of classes; raises `BadClasses` with a sentence that says what to change."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise BadClasses(f"{path} does not exist; write one such as {_EXAMPLE}") from None
    except (ValueError, OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadClasses(f"{path} cannot be read as classes: {reason}") from None
    try:
        return parse_classes(content)
    except BadClasses as error:
        raise BadClasses(f"{path}: {error}") from None


def parse_classes(content: Any) -> ClassList:
    """The classes in what was read from a file; raises `BadClasses`."""
    settings = content if isinstance(content, Mapping) and "classes" in content else {"classes": content}
    entries = [_entry(place, entry) for place, entry in enumerate(_listed(settings["classes"]))]
    ignored = [entry for entry in entries if entry["name"].casefold() in IGNORE_NAMES]
    kept = [entry for entry in entries if entry not in ignored]
    first = ignored[0] if ignored else {}
    ignore_index = settings.get("ignore_index", first.get("index"))
    ignore_color = settings.get("ignore_color", first.get("color"))
    return ClassList(
        classes=_in_order(kept),
        ignore_index=_ignore_index(IGNORE_INDEX if ignore_index is None else ignore_index, len(kept)),
        ignore_color=None if ignore_color is None else rgb(ignore_color),
    )


def find_classes_file(*folders: Path) -> Path | None:
    """The first `classes.json` or `classes.yaml` in the folders or directly above one of them."""
    places = [place for folder in folders for place in (folder, folder.resolve().parent)]
    candidates = (place / name for place in places for name in FILE_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def rgb(color: Any) -> Color:
    """`#e6194b`, `red`, `rgb(1, 2, 3)` or [1, 2, 3] as RGB; raises `BadClasses`."""
    try:
        if isinstance(color, str):
            red, green, blue = ImageColor.getrgb(color)[:3]
        else:
            red, green, blue = (int(channel) for channel in color)
    except (ValueError, TypeError):
        red = green = blue = -1
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise BadClasses(f"The colour {color!r} is unknown; write it as #rrggbb, a CSS name or [r, g, b].")
    return red, green, blue


def _listed(classes: Any) -> list[Any]:
    if isinstance(classes, Mapping):
        return [{"name": name, "color": color} for name, color in classes.items()]
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        return list(classes)
    raise BadClasses(f"there is no list of classes in it; write one such as {_EXAMPLE}")


def _entry(place: int, entry: Any) -> dict[str, Any]:
    """One class as name, index or None, and colour or None."""
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise BadClasses(f"class number {place} has no name: {entry!r}; write one such as {_EXAMPLE}")
    index = entry.get("index")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise BadClasses(f"the index of class {entry['name']} is {index!r}; it must be a whole number.")
    return {"name": entry["name"].strip(), "index": index, "color": entry.get("color")}


def _in_order(entries: list[dict[str, Any]]) -> tuple[ClassInfo, ...]:
    if len(entries) < 2:
        raise BadClasses(
            f"it lists {len(entries)} classes; a segmentation needs two at least, the background included, "
            "whose index is 0."
        )
    names = [entry["name"].casefold() for entry in entries]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise BadClasses(f"the class {', '.join(doubles)} is listed twice; give each class its own name.")
    indices = [place if entry["index"] is None else entry["index"] for place, entry in enumerate(entries)]
    if sorted(indices) != list(range(len(entries))):
        raise BadClasses(
            f"the indices of its {len(entries)} classes are {sorted(indices)}; they must be 0 to "
            f"{len(entries) - 1}, each once, and at most 254."
        )
    ordered = sorted(zip(indices, entries, strict=True), key=lambda pair: pair[0])
    return tuple(ClassInfo(name=entry["name"], color=_css(entry["color"], index)) for index, entry in ordered)


def _css(color: Any, index: int) -> str:
    if color is None:
        return _TINTS[index % len(_TINTS)]
    red, green, blue = rgb(color)
    return color if isinstance(color, str) else f"#{red:02x}{green:02x}{blue:02x}"


def _ignore_index(value: Any, classes: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not classes <= value <= IGNORE_INDEX:
        raise BadClasses(
            f"its ignore_index is {value!r}; it must be a whole number above the class indices, up to 255."
        )
    return int(value)
