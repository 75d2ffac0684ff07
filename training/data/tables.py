"""What the commands on datasets tell a person, in lines and tables."""

from __future__ import annotations

from pathlib import Path

from training.data.index import LABELED_NAME, UNLABELED_NAME, IndexSummary
from training.data.split import ALL_NAME, SplitSummary
from training.data.statistics import DatasetStatistics


def index_lines(summary: IndexSummary, out: Path) -> list[str]:
    """What an index found."""
    formats = ", ".join(f"{count} {name}" for name, count in summary.masks_by_format.items())
    return [
        f"{summary.labeled} labelled images" + (f" (masks: {formats})" if formats else "") + ", "
        f"{summary.unlabeled} without a mask, in {summary.groups} groups: {summary.sequences} sequences, "
        f"{summary.duplicate_clusters} clusters of near-duplicates.",
        f"Written: {out / LABELED_NAME}, {out / UNLABELED_NAME}"
        + (f", {summary.converted_masks} converted masks." if summary.converted_masks else "."),
    ]


def split_lines(summary: SplitSummary, out: Path) -> list[str]:
    """What is in the parts of a split."""
    names = {"train": "train", "holdout": "val", "test": "test"}
    rows = [["", *names.values()]]
    rows.append(["images", *(str(summary.images[part]) for part in names)])
    rows.append(["groups", *(str(summary.groups[part]) for part in names)])
    for name, shares in summary.class_shares.items():
        rows.append([name, *(f"{100 * shares[part]:.0f} %" for part in names)])
    return [*table_lines(rows), f"Written: {out / ALL_NAME} and its parts."]


def statistics_lines(measured: DatasetStatistics) -> list[str]:
    """The numbers of a part."""
    sizes = ", ".join(f"{size} ({count})" for size, count in measured.sizes.common.items())
    lines = [
        f"{measured.images} images of the part {measured.part} in {measured.groups} groups; px: {sizes}."
    ]
    rows = [["normalisation", "mean", "std"]]
    rows += [[kind, f"{m.mean:.4f}", f"{m.std:.4f}"] for kind, m in measured.normalised.items()]
    lines += ["", *table_lines(rows), ""]
    rows = [["bits", "images", "min", "max", "mean", "std", "1 %", "99 %", "at 0", "at max"]]
    for bits, found in measured.intensities.items():
        low, high = (f"{a:.0f}–{b:.0f}" for a, b in (found.low, found.high))
        shares = [f"{100 * share:.2f} %" for share in (found.dark_share, found.saturated_share)]
        numbers = [str(found.minimum), str(found.maximum), f"{found.mean:.1f}", f"{found.std:.1f}"]
        rows.append([bits, str(found.images), *numbers, low, high, *shares])
    lines += [*table_lines(rows), ""]
    rows = [["class", "pixels", "share", "images"]]
    rows += [[c.name, str(c.pixels), f"{100 * c.share:.2f} %", str(c.images)] for c in measured.classes]
    return lines + table_lines(rows) + [f"Ignored: {100 * measured.ignored_share:.2f} % of the pixels."]


def table_lines(rows: list[list[str]]) -> list[str]:
    """Rows of cells as aligned lines: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
