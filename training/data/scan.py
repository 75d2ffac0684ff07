"""Which files in a folder are images, which are masks, and which belong together: told by names alone.

Files are paired by their path within the folder, without its extension, else by their stem where only one
image has it. A mask may be named `<image>_mask`, `<image>_<class>` or lie in a folder named as its class.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model_zoo.errors import SRPUError
from training.data.catalog import Catalog
from training.data.findings import Finding, Findings
from training.data.names import parse_name, stem_of

CONVERTED = "converted_masks"
"""The folder an index writes index masks to, where the lab's are of another format."""
_EXTENSIONS = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".png", ".jpeg", ".jpg", ".bmp")
"""In the order in which one is preferred where one name occurs with several."""
_MASK_SUFFIX = re.compile(r"[ _.-](?:masks?|labels?|seg|segmentation|gt|annotation)$", re.IGNORECASE)


class BadFolder(SRPUError):
    """A folder of images or masks that is not there or holds none."""


@dataclass(frozen=True)
class Folders:
    """Where images and masks lie."""

    raw: Path | None = None
    """Images, in subfolders too."""
    labeled: Path | None = None
    """Masks or exports of Label Studio (their images may lie beside them or in `raw`), or a folder with
    `images/` and `masks/`, or one export."""

    def check(self) -> None:
        """Raise `BadFolder` unless there is something to scan."""
        if self.raw is None and self.labeled is None:
            raise BadFolder(
                "There is neither a folder of images nor one of masks; give --raw DIR, --labeled DIR or both."
            )
        for folder in (self.raw, self.labeled):
            export = folder == self.labeled and folder is not None and folder.suffix.lower() == ".json"
            if folder is not None and not (folder.is_dir() or (export and folder.is_file())):
                raise BadFolder(
                    f"{folder} is not a folder; give one with --raw (images) or --labeled (masks)."
                )


def image_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every image file below `folder`, in order, with its path there without extension; none hidden."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith(".") or entry.name == CONVERTED:
            continue
        if entry.is_dir():
            for path, name in image_files(Path(entry.path)):
                yield path, f"{entry.name}/{name}"
        elif extension := _extension(entry.name):
            yield Path(entry.path), entry.name[: -len(extension)]


def scan(
    folders: Folders, catalog: Catalog, classes: Collection[str], pattern: re.Pattern[str] | None = None
) -> None:
    """Enter all files into the catalogue; raises `BadFolder` when there is no image among them."""
    folders.check()
    masks, labelled_images = _labelled_folders(folders.labeled)
    for rank, folder in enumerate((labelled_images, folders.raw)):
        if folder is not None:
            _enter_images(catalog, image_files(folder), 100 * rank, pattern)
    if masks is not None:
        files = image_files(masks)
        known = {_plain(name): name for name in (*classes, "ignore")}
        catalog.run_many(
            "INSERT INTO masks (path, name, stem, base, base_stem, class) VALUES (?, ?, ?, ?, ?, ?)",
            (_mask_row(path, name, known) for path, name in files),
        )
        if labelled_images is None:
            _images_among_masks(catalog, pattern)
    if not catalog.one("SELECT 1 FROM images"):
        where = " and ".join(str(folder) for folder in (folders.raw, folders.labeled) if folder is not None)
        raise BadFolder(f"There is no image in {where}; images are PNG, TIFF, JPEG or BMP files.")


def settle_names(catalog: Catalog, findings: Findings) -> None:
    """One image per name, and a key for each: its stem, or its whole path where stems repeat."""
    better = "other.name = images.name AND (other.rank, other.id) < (images.rank, images.id)"
    beside = f"{better} AND other.rank / 100 = images.rank / 100"  # not: the same image in --raw
    twice = "SELECT path, name FROM images WHERE EXISTS (SELECT 1 FROM images other WHERE"
    for row in catalog.rows(f"{twice} {beside})"):
        findings.add(
            Finding(
                kind="double-name",
                severity="warning",
                where=row["path"],
                message=f"another image is called {row['name']} too, with another extension; it is used.",
                fix="Keep one of them, or rename one.",
            )
        )
    catalog.run(f"DELETE FROM images WHERE EXISTS (SELECT 1 FROM images other WHERE {better})")  # noqa: S608
    catalog.run(
        "UPDATE images SET key = CASE WHEN EXISTS (SELECT 1 FROM images other WHERE other.stem = images.stem"
        " AND other.id != images.id) THEN name ELSE stem END"
    )


def pair(catalog: Catalog, findings: Findings) -> None:
    """Give each mask its image; report masks without one."""
    for column, mine, whole in (
        ("name", "name", 1),
        ("name", "base", 0),
        ("stem", "stem", 1),
        ("stem", "base_stem", 0),
    ):
        catalog.run(
            f"UPDATE masks SET whole = {whole}, image = (SELECT MIN(id) FROM images"  # noqa: S608
            f" WHERE images.{column} = masks.{mine} HAVING COUNT(*) = 1) WHERE image IS NULL"
        )
    catalog.run(
        "UPDATE masks SET whole = 1, image = (SELECT MIN(id) FROM images WHERE uploaded_stem(images.stem) ="
        " masks.stem HAVING COUNT(*) = 1) WHERE image IS NULL AND path IN (SELECT path FROM drawings)"
    )
    for row in catalog.rows("SELECT path, stem, base_stem FROM masks WHERE image IS NULL"):
        alike = catalog.one("SELECT COUNT(*) FROM images WHERE stem IN (?, ?)", row["stem"], row["base_stem"])
        several = f"{alike} images in different folders are called {row['base_stem']}" if alike else ""
        findings.add(
            Finding(
                kind="unpaired-mask",
                severity="error",
                where=row["path"],
                message=f"this mask belongs to no image; {several or 'no image has its name'}.",
                fix="Name it as its image but for the extension, in the same subfolder; or remove it.",
            )
        )


def _labelled_folders(labeled: Path | None) -> tuple[Path | None, Path | None]:
    """Where the masks lie, and where the images beside them lie if they have a folder of their own."""
    if labeled is None or labeled.is_file():
        return None, None
    images = labeled / "images"
    if not (labeled / "masks").is_dir():
        return (None, images) if images.is_dir() and any(labeled.glob("*.json")) else (labeled, None)
    return labeled / "masks", images if images.is_dir() else None


def _enter_images(
    catalog: Catalog, files: Iterable[tuple[Path, str]], rank: int, pattern: re.Pattern[str] | None
) -> None:
    catalog.run_many(
        "INSERT INTO images (path, name, stem, rank, folder, sequence, frame) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (_image_row(path, name, rank, pattern) for path, name in files),
    )


def _image_row(
    path: Path, name: str, rank: int, pattern: re.Pattern[str] | None
) -> tuple[str, str, str, int, str, str | None, int | None]:
    # The extension is put back, since names of images may hold points: `alloy_0.5`.
    parsed = parse_name(f"{name}.png", pattern)
    preference = rank + _EXTENSIONS.index(_extension(path.name) or ".bmp")
    folder = name.rpartition("/")[0]
    absolute = str(path.absolute())
    return absolute, name, stem_of(f"{name}.png"), preference, folder, parsed.sequence, parsed.frame


def _mask_row(path: Path, name: str, classes: dict[str, str]) -> tuple[str, str, str, str, str, str]:
    base, class_name = _class_in(name, classes)
    if not class_name:
        base = _MASK_SUFFIX.sub("", name)
    return str(path.absolute()), name, stem_of(f"{name}.png"), base, stem_of(f"{base}.png"), class_name


def _class_in(name: str, classes: dict[str, str]) -> tuple[str, str]:
    """The image's name and the class that a mask's name tells: `pore/a`, `a_pore`, `a-pore`."""
    first, slash, rest = name.partition("/")
    if slash and _plain(first) in classes:
        return rest, classes[_plain(first)]
    for plain in sorted(classes, key=len, reverse=True):
        if _plain(name).endswith(f"_{plain}") and len(name) > len(plain) + 1:
            return name[: -len(plain) - 1], classes[plain]
    return name, ""


def _images_among_masks(catalog: Catalog, pattern: re.Pattern[str] | None) -> None:
    """Where images and masks share a folder: what has a mask named after it, or is no PNG, is an image."""
    catalog.run(
        "UPDATE masks SET whole = -1 WHERE NOT EXISTS (SELECT 1 FROM images WHERE images.name = masks.name)"
        " AND (EXISTS (SELECT 1 FROM masks other WHERE other.base = masks.name AND other.name != masks.name)"
        " OR path NOT LIKE '%.png')"
    )
    for batch in catalog.batches("masks", "whole = -1"):
        _enter_images(catalog, ((Path(row["path"]), row["name"]) for row in batch), 0, pattern)
    catalog.run("DELETE FROM masks WHERE whole = -1")


def _plain(name: str) -> str:
    return re.sub(r"[\s-]", "_", name).casefold()


def _extension(name: str) -> str | None:
    lower = name.lower()
    return next((extension for extension in _EXTENSIONS if lower.endswith(extension)), None)
