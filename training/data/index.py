"""An index of folders: which images there are, which have masks, what belongs together, in which stacks.

Works through the files one by one; what must be remembered of all of them lies in a catalogue on disk, so
that 100 000 images take the memory of a few.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Row
from typing import Any

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError
from training.data.catalog import Catalog
from training.data.classes_file import ClassList
from training.data.exports import classes_of_labels, enter_exports
from training.data.findings import Finding, Findings
from training.data.manifest import Sample
from training.data.manifest_stream import write_samples
from training.data.mask_formats import MaskFormat
from training.data.mask_import import MaskImport
from training.data.micrograph import BadImage, read_micrograph
from training.data.near_duplicates import Clusters, Descriptions, describe
from training.data.ordered_map import ordered_map
from training.data.scan import Folders, pair, scan, settle_names
from training.data.stacks import stacks

LABELED_NAME = "master_labeled_dataset.json"
UNLABELED_NAME = "master_unlabeled_dataset.json"
Report = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


@dataclass(frozen=True)
class IndexOptions:
    """How to look at the folders."""

    pattern: re.Pattern[str] | None = None
    """See `training.data.names.compile_pattern`."""
    input_depth: int = 1
    """Frames of a stack; odd."""
    mask_format: MaskFormat = "auto"
    tolerance: float = 0.0
    """Distance in RGB within which a colour is taken for the nearest class's."""
    near_duplicates: bool = True
    workers: int = 0
    """Threads that read images; 0 for one per processor."""


class BadIndexOptions(SRPUError):
    """Options of an index that cannot be met."""


class IndexSummary(Frozen):
    """What an index found."""

    labeled: int
    unlabeled: int
    groups: int
    sequences: int
    duplicate_clusters: int
    """Clusters of near-duplicates of two images or more."""
    converted_masks: int
    masks_by_format: dict[str, int]


@dataclass(frozen=True)
class _Look:
    """What reading an image told."""

    size: tuple[int, int] = (0, 0)  # width, height
    bits: int = 0
    digest: str = ""
    description: bytes | None = None
    problem: str = ""


def build_index(
    folders: Folders,
    classes: ClassList | None,
    out: Path,
    options: IndexOptions,
    findings: Findings,
    report: Report = lambda what, done, total: None,
) -> IndexSummary:
    """Scan, look at every image, group, and write the two manifests into `out`, which is made if need be.

    `classes` may be None where there is no mask, or where the labels of exports tell them. What is wrong with
    single files goes to `findings`, and the files are left out. Raises `BadFolder`, `BadExport`, `BadClasses`
    and `BadIndexOptions`.
    """
    if options.input_depth < 1 or options.input_depth % 2 == 0:
        raise BadIndexOptions(
            f"The input depth is {options.input_depth}; it must be odd and positive, the image in the middle."
        )
    out.mkdir(parents=True, exist_ok=True)
    with (
        Catalog(out / ".catalog.sqlite") as catalog,
        Descriptions(out / ".descriptions.bin") as descriptions,
    ):
        names = [info.name for info in classes.classes] if classes is not None else []
        scan(folders, catalog, names, options.pattern)
        labels = enter_exports(folders, catalog, findings)
        classes = classes or classes_of_labels(labels)
        settle_names(catalog, findings)
        pair(catalog, findings)
        _look_at_images(catalog, descriptions, options, findings, report)
        formats = _import_masks(catalog, classes, labels, out, options, findings, report)
        duplicates = _group(catalog, descriptions, options)
        return _write(catalog, classes, out, options, formats, duplicates)


def _look_at_images(
    catalog: Catalog, descriptions: Descriptions, options: IndexOptions, findings: Findings, report: Report
) -> None:
    total = catalog.one("SELECT COUNT(*) FROM images")
    done = 0
    for batch in catalog.batches("images"):
        updates: list[tuple[Any, ...]] = []
        for row, look in ordered_map(lambda row: _look(row, options), batch, options.workers):
            done += 1
            report("reading images", done, total)
            if look.problem:
                findings.add(unreadable(row["path"], look.problem))
            place = None if look.problem else descriptions.add(look.description)
            updates.append((not look.problem, *look.size, look.bits, look.digest, place, row["id"]))
        catalog.run_many(
            "UPDATE images SET usable = ?, width = ?, height = ?, bits = ?, digest = ?, cluster = ?"
            " WHERE id = ?",
            updates,
        )


def _look(row: Row, options: IndexOptions) -> _Look:
    try:
        data = Path(row["path"]).read_bytes()
        image = read_micrograph(data, name=row["path"])
    except (BadImage, OSError) as error:
        return _Look(problem=str(error))
    return _Look(
        size=(image.shape[1], image.shape[0]),
        bits=8 * image.dtype.itemsize,
        digest=hashlib.sha256(data).hexdigest(),
        description=describe(image) if options.near_duplicates else None,
    )


def unreadable(where: str, problem: str) -> Finding:
    """An image that cannot be read."""
    return Finding(
        kind="unreadable-image",
        severity="error",
        where=where,
        message=problem,
        fix="Export it anew from the microscope's software, or remove it.",
    )


def _import_masks(
    catalog: Catalog,
    classes: ClassList | None,
    labels: tuple[str, ...],
    out: Path,
    options: IndexOptions,
    findings: Findings,
    report: Report,
) -> dict[str, int]:
    """Masks of usable images, converted where the trainer could not read them; how many of each format."""
    masks = MaskImport(catalog, classes, out, options.mask_format, options.tolerance, findings, labels)
    total = catalog.one("SELECT COUNT(DISTINCT image) FROM masks")
    done = 0
    labelled = "usable AND EXISTS (SELECT 1 FROM masks WHERE masks.image = images.id)"
    for batch in catalog.batches("images", labelled):
        for row in batch:
            done += 1
            report("reading masks", done, total)
            masks.take(row)
    return masks.formats


def _group(catalog: Catalog, descriptions: Descriptions, options: IndexOptions) -> int:
    """Give each image its group: sequences and near-duplicates together; returns the clusters of the latter.

    A group is called as the first sequence, or else the first image, in it.
    """
    same = Clusters(len(descriptions))
    catalog.run("CREATE INDEX images_by_digest ON images (digest, cluster)")
    catalog.run("CREATE INDEX images_by_sequence ON images (sequence, cluster)")
    _join_neighbours(catalog, same, "digest")
    if options.near_duplicates:
        for first, second in descriptions.pairs():
            same.join(first, second)
    duplicates = same.count_of_several()
    _join_neighbours(catalog, same, "sequence")
    for batch in catalog.batches("images", "usable"):
        catalog.run_many(
            "UPDATE images SET cluster = ? WHERE id = ?",
            [(same.of(row["cluster"]), row["id"]) for row in batch],
        )
    catalog.run("CREATE INDEX images_by_cluster ON images (cluster, sequence, key)")
    catalog.run(
        "UPDATE images SET grp = (SELECT COALESCE(MIN(other.sequence), MIN(other.key)) FROM images other"
        " WHERE other.cluster = images.cluster) WHERE usable"
    )
    return duplicates


def _join_neighbours(catalog: Catalog, same: Clusters, column: str) -> None:
    """Join all images that agree in a column."""
    before: Row | None = None
    query = f"SELECT {column} AS value, cluster FROM images WHERE usable AND {column} IS NOT NULL"  # noqa: S608
    for row in catalog.rows(f"{query} ORDER BY {column}, cluster"):
        if before is not None and before["value"] == row["value"]:
            same.join(before["cluster"], row["cluster"])
        before = row


def _write(
    catalog: Catalog,
    classes: ClassList | None,
    out: Path,
    options: IndexOptions,
    formats: dict[str, int],
    duplicates: int,
) -> IndexSummary:
    infos = () if classes is None else classes.classes
    labeled = write_samples(out / LABELED_NAME, infos, _samples(catalog, options.input_depth, labeled=True))
    unlabeled = write_samples(
        out / UNLABELED_NAME, infos, _samples(catalog, options.input_depth, labeled=False)
    )
    return IndexSummary(
        labeled=labeled,
        unlabeled=unlabeled,
        groups=catalog.one("SELECT COUNT(DISTINCT grp) FROM images WHERE usable"),
        sequences=catalog.one("SELECT COUNT(DISTINCT sequence) FROM images WHERE usable"),
        duplicate_clusters=duplicates,
        converted_masks=catalog.one(
            "SELECT COUNT(*) FROM images WHERE mask IS NOT NULL AND mask NOT IN (SELECT path FROM masks)"
        ),
        masks_by_format=formats,
    )


def _samples(catalog: Catalog, depth: int, *, labeled: bool) -> Iterator[Sample]:
    """In the order of folders, sequences and frames, so that neighbours of a recording stand together."""
    for row, frames in stacks(catalog, depth):
        if (row["mask"] is not None) != labeled:
            continue
        content = f"{row['digest']}:{row['mask_digest']}" if labeled else row["digest"]
        yield Sample(
            key=row["key"],
            image=Path(row["path"]),
            mask=Path(row["mask"]) if labeled else None,
            group=row["grp"],
            part="train" if labeled else "pool",
            sequence=row["sequence"],
            frame=row["frame"],
            frames=tuple(Path(path) for path in frames),
            content=content,
        )
