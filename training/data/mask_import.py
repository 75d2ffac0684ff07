"""From the lab's masks to masks the trainer reads; what is wrong is reported and left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from sqlite3 import Row

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError
from training.data.catalog import Catalog
from training.data.classes_file import ClassList
from training.data.exports import Drawings
from training.data.findings import Finding, Findings
from training.data.manifest import IGNORE_INDEX
from training.data.mask_formats import DecodedMask, MaskFormat, decode_binary_masks, decode_mask
from training.data.masks import BadMask, write_mask
from training.data.scan import CONVERTED


class ClassesNeeded(SRPUError):
    """There are masks, but nothing says what they mean."""


class MaskImport:
    """Reads, checks and where need be converts the masks of a catalogue."""

    def __init__(
        self,
        catalog: Catalog,
        classes: ClassList | None,
        out: Path,
        mask_format: MaskFormat,
        tolerance: float,
        findings: Findings,
        labels: Collection[str] = (),
    ) -> None:
        """`labels`: those drawn in exports of Label Studio."""
        self._catalog = catalog
        self._classes = classes
        self._folder = out / CONVERTED
        self._format: MaskFormat = mask_format
        self._tolerance = tolerance
        self._findings = findings
        self._drawings = Drawings(catalog, classes, labels)
        self._formats: Counter[str] = Counter()

    @property
    def formats(self) -> dict[str, int]:
        """How many masks were taken, by format."""
        return dict(self._formats)

    def take(self, image: Row) -> None:
        """Enter the mask of an image into the catalogue, unless something is wrong with it.

        Raises `ClassesNeeded` where there is no list of classes.
        """
        if self._classes is None:
            raise ClassesNeeded(
                "There are masks, but no classes.json or classes.yaml says which classes there are; "
                'write one such as {"classes": ["matrix", "pore"]} and give it with --classes.'
            )
        rows = list(self._catalog.rows("SELECT * FROM masks WHERE image = ? ORDER BY id", image["id"]))
        try:
            path, decoded = self._decode(image, rows, self._classes)
        except BadMask as error:
            self._report(
                "unreadable-mask",
                rows[0]["path"],
                str(error),
                "Save the mask anew as PNG, or export it anew.",
            )
            return
        if not self._sound(path, decoded, image):
            return
        self._formats[decoded.read_as] += 1
        self._enter(image, path, decoded, self._classes)

    def _decode(self, image: Row, rows: list[Row], classes: ClassList) -> tuple[Path, DecodedMask]:
        if self._format == "json":
            rows = [row for row in rows if self._drawings.holds(row["path"])] or rows
        whole = [row for row in rows if row["whole"] or not row["class"]]
        parts = [row for row in rows if row not in whole]
        if parts and not whole and self._format in ("auto", "binary"):
            by_class = {row["class"]: Path(row["path"]) for row in parts}
            return Path(parts[0]["path"]), decode_binary_masks(by_class, classes)
        if self._format == "binary":
            raise BadMask(
                f"{image['key']} has no binary masks; name them {image['key']}_<class>.png, or put them into "
                "a folder for each class."
            )
        if len(rows) > 1:
            self._report(
                "several-masks",
                image["key"],
                f"it has {len(rows)} masks; {(whole or rows)[0]['path']} is used.",
                "Keep one of them.",
                warning=True,
            )
        path = Path((whole or rows)[0]["path"])
        if self._format in ("auto", "json") and self._drawings.holds(str(path)):
            return path, self._drawn(str(path), image)
        return path, decode_mask(path, classes, self._format, self._tolerance)

    def _drawn(self, where: str, image: Row) -> DecodedMask:
        decoded, problems = self._drawings.decode(where, (image["width"], image["height"]))
        if (decoded.mask == IGNORE_INDEX).all():
            raise BadMask(f"{where} says nothing of any pixel. {' '.join(problems)}".strip())
        for problem in problems:
            fix = "Correct the region in Label Studio, or add its label to the classes, and export again."
            self._report("region", where, problem, fix, warning=True)
        return decoded

    def _sound(self, path: Path, decoded: DecodedMask, image: Row) -> bool:
        for unknown in decoded.unknown:
            what = "colour" if unknown.value.startswith("#") else "value"
            known = ", ".join(f"{info.name} {info.color}" for info in self._known())
            self._findings.add(
                Finding(
                    kind="unknown-color",
                    severity="error",
                    where=str(path),
                    message=f"{unknown.pixels} px have the {what} {unknown.value}, which is no class's.",
                    fix=f"Known are: {known}. Correct the mask or the classes"
                    + ("; for smoothed edges try --tolerance 40." if what == "colour" else "."),
                    places=unknown.places,
                )
            )
        height, width = decoded.mask.shape
        if (width, height) != (image["width"], image["height"]):
            self._report(
                "size",
                str(path),
                f"the mask is {width} × {height} px, its image {image['path']} is "
                f"{image['width']} × {image['height']} px.",
                "Save the mask at the size of the image, without smoothing.",
            )
            return False
        if decoded.note:
            self._report("doubtful-mask", str(path), decoded.note, "", warning=True)
        if decoded.overlapping:
            self._report(
                "overlap",
                str(path),
                f"{decoded.overlapping} px belong to several classes; the one listed last has them.",
                "Order the classes so, or cut the masks free of each other.",
                warning=True,
            )
        return not decoded.unknown

    def _known(self) -> tuple[ClassInfo, ...]:
        return () if self._classes is None else self._classes.classes

    def _report(self, kind: str, where: str, message: str, fix: str, *, warning: bool = False) -> None:
        severity = "warning" if warning else "error"
        self._findings.add(Finding(kind=kind, severity=severity, where=where, message=message, fix=fix))

    def _enter(self, image: Row, path: Path, decoded: DecodedMask, classes: ClassList) -> None:
        if decoded.read_as != "index" or classes.ignore_index != IGNORE_INDEX:
            path = self._folder / f"{image['key']}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, decoded.mask, classes.classes)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._catalog.run(
            "UPDATE images SET mask = ?, mask_digest = ? WHERE id = ?",
            str(path.absolute()),
            digest,
            image["id"],
        )
