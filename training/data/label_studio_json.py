"""Label Studio's JSON export: a list of tasks with their annotations, read one task at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from model_zoo.errors import SRPUError
from training.data.names import is_image_name

_CHUNK = 1 << 16
_IMAGE_FIELDS = ("image", "original")


class BadExport(SRPUError):
    """A file that is no export of Label Studio, or a damaged one."""


@dataclass(frozen=True)
class ExportedTask:
    """One task of an export."""

    name: str
    """`task 17`, or `entry 3` where it has no id."""
    reference: str
    """Of its image; '' where its data name none."""
    results: list[Any] | None
    """What was drawn in the annotation that counts; None when there is none."""


def counting_annotation(annotations: object) -> dict[str, Any] | None:
    """The one annotation of a task that counts.

    Skipped ones (`was_cancelled`) never count and drafts are not annotations; of the others the
    ground-truth one counts, else the one submitted or changed last.
    """
    listed = annotations if isinstance(annotations, list | tuple) else ()
    submitted = [
        a
        for a in listed
        if isinstance(a, Mapping) and not a.get("was_cancelled") and a.get("result") is not None
    ]
    return dict(sorted(submitted, key=_precedence)[-1]) if submitted else None


def read_tasks(path: Path) -> Iterator[ExportedTask]:
    """The tasks of an export in order; raises `BadExport`, also after some, where the file is damaged."""
    annotated = False
    number = 0
    for number, entry in enumerate(_entries(path), start=1):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations", []), list):
            raise BadExport(f"Entry {number} of {path} is no task of Label Studio; export as JSON.")
        annotated = annotated or "annotations" in entry
        id = entry.get("id")
        name = f"task {id}" if isinstance(id, int) else f"entry {number}"
        annotation = counting_annotation(entry.get("annotations"))
        results = None if annotation is None else annotation["result"]
        yield ExportedTask(name, _reference(entry), results)
    if number and not annotated:
        raise BadExport(
            f"No task of {path} has a list of annotations; export as JSON (not as JSON-MIN, which leaves out "
            "what annotations are of)."
        )


def looks_like_export(path: Path) -> bool:
    """True for a file that begins as a list of objects; what else lies there as JSON is not ours to read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            start = file.read(_CHUNK).lstrip()
    except OSError:
        return True  # to be told why when it is read
    return start.startswith("[") and start[1:].lstrip()[:1] in ("{", "")


def _precedence(annotation: Mapping[str, Any]) -> tuple[bool, str, int]:
    when = annotation.get("updated_at") or annotation.get("created_at") or ""
    id = annotation.get("id")
    return bool(annotation.get("ground_truth")), str(when), id if isinstance(id, int) else 0


def _reference(entry: Mapping[str, Any]) -> str:
    """`data.image`, else `data.original`, else the first of its data that is called as images are."""
    data = entry.get("data")
    texts = {k: v for k, v in data.items() if isinstance(v, str)} if isinstance(data, Mapping) else {}
    named = [texts[field] for field in _IMAGE_FIELDS if texts.get(field)]
    return next(iter([*named, *filter(is_image_name, texts.values())]), "")


def _entries(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _listed(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadExport(f"{path} cannot be read: {error}.") from None


def _listed(file: TextIO, path: Path) -> Iterator[Any]:
    """The elements of a JSON list, none of which but the current one is in memory."""
    decoder = json.JSONDecoder()
    text = file.read(_CHUNK).lstrip()
    if not text.startswith("["):
        raise BadExport(f"{path} is no list of tasks; export from Label Studio as JSON.")
    text = text[1:]
    while True:
        text = text.lstrip(" \r\n\t,")
        if text.startswith("]"):
            return
        try:
            content, end = decoder.raw_decode(text)
        except RecursionError:
            raise BadExport(f"{path} is nested deeper than any export; export it again.") from None
        except ValueError:
            more = file.read(max(_CHUNK, len(text)))  # twice as much each time: a task may be large
            if not more:
                raise BadExport(f"{path} is damaged or cut short; export it again.") from None
            text += more
            continue
        yield content
        text = text[end:]
