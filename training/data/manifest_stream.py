"""Manifests of any length, one sample at a time: `training.data.manifest`'s format, never in memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from model_zoo.card import ClassInfo
from model_zoo.files import atomic_file
from training.data.manifest import IGNORE_INDEX, BadManifest, Manifest, Sample

_CHUNK = 1 << 16
_SAMPLES = re.compile(r'"samples"\s*:\s*\[')


def write_samples(path: Path, classes: Sequence[ClassInfo], samples: Iterable[Sample]) -> int:
    """Write a manifest as the samples come, atomically; returns how many there were.

    Paths are written relative to the manifest's folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    count = 0
    with atomic_file(path) as file:
        listed = json.dumps([info.model_dump() for info in classes], ensure_ascii=False)
        file.write(f'{{"classes": {listed},\n"ignore_index": {IGNORE_INDEX},\n"samples": ['.encode())
        for sample in samples:
            file.write(b",\n" if count else b"\n")
            file.write(_relative(sample, folder).model_dump_json().encode())
            count += 1
        file.write(b"\n]}\n")
    return count


def read_class_infos(path: Path) -> tuple[ClassInfo, ...]:
    """The classes of a manifest, whose samples are not read; raises `BadManifest`."""
    with _opened(path) as file:
        head, _ = _head(file, path)
    try:
        return Manifest.model_validate(json.loads(head + "]}")).classes
    except (ValidationError, ValueError):
        return Manifest.read(path).classes  # written in another order: what follows the samples counts too


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples of a manifest in order, their paths resolved against its folder; raises `BadManifest`."""
    folder = path.resolve().parent
    decoder = json.JSONDecoder()
    with _opened(path) as file:
        _, text = _head(file, path)
        while True:
            text = text.lstrip(" \r\n\t,")
            if text.startswith("]"):
                return
            try:
                content, end = decoder.raw_decode(text)
            except ValueError:
                more = file.read(_CHUNK)
                if not more:
                    raise BadManifest(f"{path} is cut short; write it again.") from None
                text += more
                continue
            yield _resolved(content, folder, path)
            text = text[end:]


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8")
    except FileNotFoundError:
        raise BadManifest(f"{path} does not exist; give the path of a manifest JSON.") from None
    except OSError as error:
        raise BadManifest(f"{path} cannot be read: {error}") from None


def _head(file: TextIO, path: Path) -> tuple[str, str]:
    """What comes before the first sample, and what has been read beyond that."""
    text = ""
    try:
        while more := file.read(_CHUNK):
            text += more
            if match := _SAMPLES.search(text):
                return text[: match.end()], text[match.end() :]
    except UnicodeDecodeError:
        pass
    raise BadManifest(f"{path} is not a manifest: it lists no samples.")


def _relative(sample: Sample, folder: Path) -> Sample:
    def portable(path: Path) -> Path:
        return Path(os.path.relpath(path, folder)) if path.is_absolute() else path

    return sample.model_copy(
        update={
            "image": portable(sample.image),
            "mask": None if sample.mask is None else portable(sample.mask),
            "frames": tuple(portable(frame) for frame in sample.frames),
        }
    )


def _resolved(content: object, folder: Path, path: Path) -> Sample:
    try:
        sample = Sample.model_validate(content)
    except ValidationError as error:
        reason = " ".join(str(error).split())
        raise BadManifest(f"{path} is not a manifest: {reason}") from None
    return sample.model_copy(
        update={
            "image": folder / sample.image,
            "mask": None if sample.mask is None else folder / sample.mask,
            "frames": tuple(folder / frame for frame in sample.frames),
        }
    )
