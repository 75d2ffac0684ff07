"""What a file's name tells: which sequence (or specimen) an image belongs to, and which frame it is.

Labs name the frames of one recording, or the images of one specimen, alike but for a number at the end:
`4.2V-001.png`, `10C3_0.tif`, `spot3_0d_3`. Everything before that number is the sequence. Images of one
sequence show the same material, often the same place, so they must never be torn between training and
holdout; grouping too much costs a holdout and says so, grouping too little leaks in silence. When a name
leaves doubt, we group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from model_zoo.errors import SRPUError

_UPLOAD_FOLDER = re.compile(r"(?:^|/)upload/\d+/[0-9a-f]{8}-(?=[^/]+$)")
_UPLOAD_PREFIX = re.compile(r"^(?=[0-9]*[a-f])[0-9a-f]{8}-(?=.)")
_EXTENSION = re.compile(r"(?:\.ome)?\.(?:png|tiff?|jpe?g|bmp|gif|webp|dm[34]|npy)$", re.IGNORECASE)

# A number at the end, of at most seven digits (eight are a date), set off by a separator or brackets. A point
# sets nothing off: `alloy_0.5` ends in a decimal.
_SEPARATED = re.compile(
    r"^(?P<sequence>.*[^\W_].*?)[-_#\s]*(?:[-_#\s](?:frame|img|image|slice|f|t|z)?|\()(?P<frame>\d{1,7})\)?$",
    re.IGNORECASE,
)
# Or by nothing at all, when a word for "image" precedes it or it is a counter of four digits and more.
# Fewer digits are part of a name: `AISI304`, `10C3`.
_COUNTED = re.compile(
    r"^(?P<sequence>(?:.*[-_#\s])?(?:frame|image|img|slice|scan|sem|tem))(?P<frame>\d{1,7})$", re.IGNORECASE
)
_PADDED = re.compile(r"^(?P<sequence>.*[^\W\d_])(?P<frame>\d{4,7})$")


class BadPattern(SRPUError):
    """A pattern for names that cannot be used."""


@dataclass(frozen=True)
class FrameName:
    """The sequence a name belongs to and its place there; both None when the name tells neither."""

    sequence: str | None
    frame: int | None


def compile_pattern(text: str) -> re.Pattern[str]:
    """A user's regular expression with the groups `sequence` and, if there are frames, `frame`.

    Raises `BadPattern` when it is not a regular expression or lacks the group `sequence`.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise BadPattern(f"The name pattern {text!r} is not a regular expression: {error}.") from None
    if "sequence" not in pattern.groupindex:
        raise BadPattern(
            f"The name pattern {text!r} has no group `sequence`; write one such as "
            r"(?P<sequence>.+)-(?P<frame>\d+)$."
        )
    return pattern


def parse_name(name: str, pattern: re.Pattern[str] | None = None) -> FrameName:
    """Sequence and frame of a file name, path or image reference; pure text, nothing is opened.

    `pattern` (see `compile_pattern`) replaces the built-in rules. It is searched in the whole path without
    extension, so folders can name sequences: `(?P<sequence>[^/]+)/(?P<frame>\\d+)$`. The built-in rules look
    at the last part alone; a bare number (`02.png`) names no sequence.
    """
    path = _path_without_extension(name)
    if pattern is not None:
        match = pattern.search(path)
    else:
        stem = path.rsplit("/", 1)[-1]
        match = _COUNTED.match(stem) or _SEPARATED.match(stem) or _PADDED.match(stem)
    if match is None or not match["sequence"]:
        return FrameName(None, None)
    frame = match.groupdict().get("frame")
    return FrameName(match["sequence"], int(frame) if frame and frame.isdecimal() else None)


def group_of(name: str, pattern: re.Pattern[str] | None = None) -> str:
    """The group an image is held out or trained on with: its sequence, else its own stem."""
    return parse_name(name, pattern).sequence or stem_of(name) or name


def stem_of(name: str) -> str:
    """Last part of a path or reference, without image extension and without the prefix of an upload."""
    return _path_without_extension(name).rsplit("/", 1)[-1]


def bare_path(name: str) -> str:
    """The path within a path or reference, without image extension and without the prefix of an upload."""
    return _path_without_extension(name)


def is_image_name(name: str) -> bool:
    """True where a path or reference ends as images do."""
    return _EXTENSION.search(_path_of(name)) is not None


def uploaded_stem(stem: str) -> str:
    """A stem as Label Studio writes it when the file is uploaded: spaces become `_`, brackets and such go."""
    return re.sub(r"[^-\w.]", "", stem.strip().replace(" ", "_"))


def folder_of(name: str) -> str:
    """The folder a path or reference names, '' where it names none."""
    return _path_of(name).rpartition("/")[0]


def _path_without_extension(name: str) -> str:
    return _EXTENSION.sub("", _without_upload_prefix(_path_of(name)))


def _path_of(name: str) -> str:
    """The path within a reference: `/data/local-files/?d=a/b.png` → `a/b.png`; signatures fall away."""
    name = name.replace("\\", "/")
    if "?d=" in name:
        return unquote(name.split("?d=", 1)[1].split("&", 1)[0])
    if "://" in name or name.startswith("/data/"):
        return unquote(name.split("?", 1)[0])
    return name


def _without_upload_prefix(path: str) -> str:
    """Drop the eight hex digits and dash that Label Studio puts before the name of an upload.

    Outside an upload folder eight decimal digits stay: there they are a date (`20231105-001.png`).
    """
    in_folder = _UPLOAD_FOLDER.search(path)
    if in_folder:
        return path[in_folder.end() :]
    folder, slash, name = path.rpartition("/")
    return folder + slash + _UPLOAD_PREFIX.sub("", name)
