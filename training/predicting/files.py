"""Which images are to be predicted, and what the files made of them are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from model_zoo.errors import SRPUError
from training.data.catalog import Catalog
from training.data.manifest import Sample
from training.data.micrograph import BadImage, image_size
from training.data.names import parse_name
from training.data.scan import BadFolder, image_files
from training.data.stacks import stacks

OVERLAYS, PROBABILITIES = "overlays", "probabilities"
EXTRA_FOLDERS = (OVERLAYS, PROBABILITIES)
"""Folders among the masks that hold none."""
Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""

_MASK_ENDING = re.compile(r"[ _.-](?:masks?|labels?|seg|segmentation|gt|annotation)$", re.IGNORECASE)


class BadOutput(SRPUError):
    """A folder for results that would overwrite what is read."""


@dataclass(frozen=True)
class ImageFile:
    """One image to be predicted."""

    path: Path
    name: str
    """Of its results, without extension, with its subfolder: unique among all."""


def list_images(sources: Sequence[Path], out: Path | None = None) -> list[ImageFile]:
    """The images below folders, and single files; what lies in `out` is none of them.

    A file named after another image, as its mask (`a_mask.png`), is left out. Results are named as their
    image without extension, in the same subfolder; where that name occurs twice, its extension is kept
    (`a.tif`, `a.png` → `a.tif.png`, `a.png.png`), and numbered where it occurs in several folders given.
    Raises `BadFolder` when there is no image, `BadOutput` when a result would overwrite one.
    """
    found = list(dict.fromkeys(entry for source in sources for entry in _entries(source, out)))
    if not found:
        raise BadFolder(
            f"There is no image in {' '.join(map(str, sources))}; images are PNG, TIFF, JPEG or BMP files."
        )
    images = [ImageFile(path, name) for (path, _), name in zip(found, _unique(found), strict=True)]
    if out is not None:
        _refuse_overwriting(images, out)
    return images


def _entries(source: Path, out: Path | None) -> Iterable[tuple[Path, str]]:
    if source.is_file():
        return [(source, source.stem)]
    if not source.is_dir():
        raise BadFolder(f"{source} does not exist; give a folder of images, or images, with --images.")
    entries = list(image_files(source))
    if out is not None and source.resolve() != out.resolve():
        entries = [entry for entry in entries if out.resolve() not in entry[0].resolve().parents]
    names = {name for _, name in entries}
    return [entry for entry in entries if not _is_mask_of_one(entry[1], names)]


def _is_mask_of_one(name: str, names: set[str]) -> bool:
    base = _MASK_ENDING.sub("", name)
    return base != name and base in names


def _unique(found: Sequence[tuple[Path, str]]) -> list[str]:
    """A name for each, compared without case, for file systems that know none."""
    counts: dict[str, int] = {}
    for _, name in found:
        counts[name.casefold()] = counts.get(name.casefold(), 0) + 1
    taken = {name for name, count in counts.items() if count == 1}
    names = []
    for path, name in found:
        if counts[name.casefold()] > 1:
            wanted = f"{name.rpartition('/')[0]}/{path.name}".lstrip("/")
            name, number = wanted, 1
            while name.casefold() in taken:
                number += 1
                name = f"{wanted}-{number}"
            taken.add(name.casefold())
        names.append(name)
    return names


def _refuse_overwriting(images: Sequence[ImageFile], out: Path) -> None:
    read = {image.path.resolve() for image in images}
    for image in images:
        if mask_path(out, image.name).resolve() in read:
            raise BadOutput(
                f"The mask of {image.path} would overwrite an image; give another --out than {out}."
            )
        folder, inside, _ = image.name.partition("/")
        if inside and folder in EXTRA_FOLDERS:
            raise BadOutput(
                f"The images lie in a subfolder called {folder}, where {out} holds other results; "
                "rename it, or give it with --images on its own."
            )


def mask_path(out: Path, name: str) -> Path:
    """Where the index PNG of an image is."""
    return out / f"{name}.png"


def mask_files(out: Path) -> list[Path]:
    """The masks in a folder of results, in order."""
    return sorted(path for path in out.rglob("*.png") if path.relative_to(out).parts[0] not in EXTRA_FOLDERS)


def samples_of(
    images: Sequence[ImageFile], depth: int, pattern: re.Pattern[str] | None = None
) -> list[tuple[Sample, str | None]]:
    """Each image with its neighbouring frames, told by the names in its folder; and why it cannot be read.

    See `training.data.stacks.stacks`. Only headers are read, and none for a `depth` of 1.
    """
    alone = [Sample(key=image.name, image=image.path, group=image.name, part="pool") for image in images]
    if depth == 1:
        return [(sample, None) for sample in alone]
    with TemporaryDirectory() as folder, Catalog(Path(folder) / "images.sqlite") as catalog:
        problems = _enter(catalog, images, pattern)
        frames = {row["name"]: paths for row, paths in stacks(catalog, depth)}
    return [
        (
            sample.model_copy(update={"frames": tuple(map(Path, frames.get(sample.key, ())))}),
            problems.get(sample.key),
        )
        for sample in alone
    ]


def _enter(catalog: Catalog, images: Sequence[ImageFile], pattern: re.Pattern[str] | None) -> dict[str, str]:
    problems: dict[str, str] = {}
    for image in images:
        try:
            width, height = image_size(image.path)
        except BadImage as error:
            problems[image.name] = str(error)
            continue
        parsed = parse_name(image.path.as_posix() if pattern else image.path.name, pattern)
        catalog.run(
            "INSERT INTO images (path, name, stem, rank, folder, sequence, frame, width, height)"
            " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
            str(image.path),
            image.name,
            image.path.stem,
            str(image.path.parent),
            parsed.sequence,
            parsed.frame,
            width,
            height,
        )
    return problems
