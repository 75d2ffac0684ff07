"""Exports of Label Studio as masks of an index: which lie in the folders, and what their labels mean."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from model_zoo.card import BACKGROUND_NAMES, ClassInfo
from training.data.catalog import Catalog
from training.data.classes_file import FILE_NAMES, IGNORE_NAMES, ClassList, parse_classes
from training.data.findings import Finding, Findings
from training.data.label_studio_json import (
    BadExport,
    ExportedTask,
    looks_like_export,
    read_tasks,
)
from training.data.manifest import IGNORE_INDEX
from training.data.mask_formats import DecodedMask
from training.data.names import bare_path, stem_of
from training.data.regions import paint
from training.data.regions.region import read_regions
from training.data.scan import Folders


def enter_exports(folders: Folders, catalog: Catalog, findings: Findings) -> tuple[str, ...]:
    """Enter what was drawn into the catalogue, as masks named as their images; returns the labels, in order.

    What is wrong with a file or a task is a finding. Raises `BadExport` where `folders.labeled` itself is no
    export.
    """
    labels: dict[str, None] = {}
    for path in _exports(folders.labeled):
        try:
            for task in read_tasks(path):
                _enter(task, path, catalog, findings, labels)
        except BadExport as error:
            if path == folders.labeled:
                raise
            findings.add(
                _finding("unreadable-export", str(path), str(error), "Remove it, or export it again.")
            )
    return tuple(labels)


def classes_of_labels(labels: Collection[str]) -> ClassList | None:
    """The classes where only the exports tell them: background first, unless a label is; None without labels.

    Raises `BadClasses` where they are too few or too many.
    """
    names = list(labels)
    if not names:
        return None
    if any(name.casefold() in BACKGROUND_NAMES for name in names):
        return parse_classes(names)
    found = parse_classes(["background", *names])
    implicit = found.classes[0].model_copy(update={"implicit": True})
    return replace(found, classes=(implicit, *found.classes[1:]))


class Drawings:
    """Masks from what was drawn; the same rules as for the tasks of a project."""

    def __init__(self, catalog: Catalog, classes: ClassList | None, labels: Collection[str]) -> None:
        infos = () if classes is None else classes.classes
        self._catalog = catalog
        self._indices = {info.name: index for index, info in enumerate(infos) if not info.implicit}
        self._unmarked = _unmarked(infos, labels)

    def holds(self, path: str) -> bool:
        """True for a mask that was drawn, False for a file."""
        return self._catalog.one("SELECT 1 FROM drawings WHERE path = ?", path) is not None

    def decode(self, path: str, size: tuple[int, int]) -> tuple[DecodedMask, tuple[str, ...]]:
        """The mask of an image of `size` (width, height), and what of it could not be used."""
        results = json.loads(self._catalog.one("SELECT results FROM drawings WHERE path = ?", path))
        painted = paint(results, size, self._index_of, self._unmarked, classes_of="the list of classes")
        return DecodedMask(painted.mask, read_as="json"), painted.problems

    def _index_of(self, label: str) -> int | None:
        if label in self._indices:
            return self._indices[label]
        return IGNORE_INDEX if label.casefold() in IGNORE_NAMES else None


def _unmarked(classes: Sequence[ClassInfo], labels: Collection[str]) -> int:
    """What a pixel without a region is: the background that nobody draws, else ignore."""
    drawn = {label.casefold() for label in labels}
    for index, info in enumerate(classes):
        if info.implicit or info.name.casefold() in BACKGROUND_NAMES:
            return IGNORE_INDEX if info.name.casefold() in drawn else index
    return IGNORE_INDEX


def _exports(labeled: Path | None) -> Iterator[Path]:
    if labeled is None:
        return
    if labeled.is_file():
        yield labeled
        return
    for folder in (labeled, labeled / "masks"):
        for path in sorted(folder.glob("*.json")):
            if path.name not in FILE_NAMES and path.is_file() and looks_like_export(path):
                yield path


def _enter(
    task: ExportedTask, export: Path, catalog: Catalog, findings: Findings, labels: dict[str, None]
) -> None:
    where = f"{export}, {task.name}"
    if task.results is None:
        return
    if not task.reference:
        fix = "Export the project again with its data."
        findings.add(_finding("unpaired-mask", where, "its data name no image.", fix))
        return
    results = task.results if isinstance(task.results, list) else []
    for region in read_regions(results, None, []):
        labels |= dict.fromkeys(label for label in region.labels[:1] if label.strip())
    name, stem = bare_path(task.reference), stem_of(task.reference)
    catalog.run(
        "INSERT INTO masks (path, name, stem, base, base_stem, class) VALUES (?, ?, ?, ?, ?, '')",
        where, name, stem, name, stem,
    )  # fmt: skip
    catalog.run("INSERT OR REPLACE INTO drawings VALUES (?, ?)", where, json.dumps(task.results))


def _finding(kind: str, where: str, message: str, fix: str) -> Finding:
    return Finding(kind=kind, severity="error", where=where, message=message, fix=fix)
