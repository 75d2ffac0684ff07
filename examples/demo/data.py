"""A folder of images as the demo finds it, labelled or not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
MASK_SUFFIX = ".png"
COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#911eb4", "#f58231", "#46f0f0", "#bcf60c")


class BadDataFolder(SRPUError):
    """A folder that the demo cannot use."""


@dataclass(frozen=True)
class DataFolder:
    """Images, the classes to label, and the masks there are."""

    root: Path
    source: Path
    """Folder whose images are imported, with those in folders below."""
    images: tuple[Path, ...]
    """In the order of their names."""
    masks: tuple[Path | None, ...]
    """Index mask of each image; None when there is none."""
    classes: tuple[ClassInfo, ...]
    """Index = value in the masks; an implicit class stands for what nobody labels."""

    @property
    def labels(self) -> tuple[ClassInfo, ...]:
        """The classes somebody draws."""
        return tuple(info for info in self.classes if not info.implicit)

    @property
    def masked(self) -> bool:
        """Whether there is a mask for at least one image."""
        return any(mask is not None for mask in self.masks)

    def with_masks_only(self, copies: Path) -> DataFolder:
        """The images that have a mask, copied to `copies` unless that is all of them.

        Raises `BadDataFolder` when there are none.
        """
        if all(mask is not None for mask in self.masks):
            return self
        pairs = [(i, m) for i, m in zip(self.images, self.masks, strict=True) if m is not None]
        if not pairs:
            raise BadDataFolder(
                f"{self.root} has no masks to play the annotator with; put palette PNGs into masks/ and the "
                "classes into classes.json, or leave out ONCE."
            )
        copies.mkdir(parents=True)
        images = tuple(Path(shutil.copy2(image, copies)) for image, _ in pairs)
        return replace(self, source=copies, images=images, masks=tuple(mask for _, mask in pairs))

    def mask_of(self, stem: str) -> Path | None:
        """The mask of the image called `stem`."""
        for image, mask in zip(self.images, self.masks, strict=True):
            if image.stem == stem:
                return mask
        return None


def read_folder(root: Path, labels: Sequence[str] = ()) -> DataFolder:
    """`images/`, `masks/` and `classes.json` below `root`, or just images in `root` itself.

    `labels` name the classes of a folder without `classes.json`; masks without `classes.json` are not
    used, since nobody says what their values mean. Raises `BadDataFolder`.
    """
    if not root.is_dir():
        raise BadDataFolder(f"{root} is not a folder; give the path of a folder of images.")
    folder = root / "images" if (root / "images").is_dir() else root
    images = tuple(sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()))
    if not images:
        raise BadDataFolder(f"There are no PNG, JPEG or TIFF images in {folder}.")
    described = root / "classes.json"
    if not described.exists():
        names = [*dict.fromkeys(labels)] or ["feature"]
        drawn = [ClassInfo(name=n, color=COLORS[i % len(COLORS)]) for i, n in enumerate(names)]
        background = ClassInfo(name="background", color="#000000", implicit=True)
        return DataFolder(root, folder, images, (None,) * len(images), (background, *drawn))
    masks = tuple(_existing(root / "masks" / f"{image.stem}{MASK_SUFFIX}") for image in images)
    return DataFolder(root, folder, images, masks, _read_classes(described))


def label_config(labels: Sequence[ClassInfo]) -> str:
    """A labelling interface with one brush label for each class."""
    drawn = "\n".join(
        f"    <Label value={quoteattr(info.name)} background={quoteattr(info.color)}/>" for info in labels
    )
    return (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true" zoomControl="true" brightnessControl="true"'
        ' contrastControl="true"/>\n'
        '  <BrushLabels name="label" toName="image">\n'
        f"{drawn}\n"
        "  </BrushLabels>\n"
        "</View>"
    )


def slug(name: str) -> str:
    """A folder name for `name`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "data"


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _read_classes(path: Path) -> tuple[ClassInfo, ...]:
    """Classes by index; number 0 is the implicit background unless it says `"implicit": false`."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["classes"]
        by_index = {int(entry["index"]): entry for entry in listed}
        classes = tuple(
            ClassInfo(
                name=str(by_index[index]["name"]),
                color=str(by_index[index].get("color", COLORS[index % len(COLORS)])),
                implicit=bool(by_index[index].get("implicit", index == 0)),
            )
            for index in range(len(by_index))
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BadDataFolder(
            f"{path} cannot be used ({error}); it lists the classes by index, as in "
            '{"classes": [{"index": 0, "name": "matrix", "color": "#000000"}, …]}.'
        ) from None
    if all(info.implicit for info in classes):
        raise BadDataFolder(f"{path} has no class to label besides the background.")
    return classes
