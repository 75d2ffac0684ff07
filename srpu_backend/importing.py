"""`python -m srpu_backend import`: a folder of micrographs becomes tasks of a Label Studio project.

Images that browsers show go as they are. TIFF and 16-bit images go as 8-bit PNG proxies of equal size; the
task names the original, which is what is learnt from. May be run again: what is in the project is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model_zoo.errors import SRPUError
from srpu_backend.connect import required
from srpu_backend.label_config import LabelConfig
from srpu_backend.projects import Projects
from srpu_backend.proxies import proxy_of
from srpu_backend.settings import Settings
from srpu_backend.shelves import LocalFiles, Picture, Shelf, Uploads
from srpu_backend.studio import Studio
from training.data.micrograph import BadImage, Limits
from training.data.names import compile_pattern, parse_name

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_BATCH_FILES = 20
_BATCH_BYTES = 64 * 2**20
_DIGITS = re.compile(r"(\d+)")


class CannotImport(SRPUError):
    """The folder cannot be imported; the message says what to mend."""


@dataclass
class ImportReport:
    """What became of the files."""

    imported: list[int] = field(default_factory=list)
    """Ids of the new tasks."""
    known: int = 0
    """Files that were in the project already, or twice in the folder."""
    bad: list[str] = field(default_factory=list)
    """A sentence for each file that is no image."""

    def as_text(self) -> str:
        """Plain words for a terminal."""
        lines = [f"{len(self.imported)} imported, {self.known} already there, {len(self.bad)} left out."]
        return "\n".join([*lines, *(f"✗ {reason}" for reason in self.bad)])


def import_folder(
    studio: Studio,
    project: int,
    folder: Path,
    shelf: Shelf,
    *,
    limits: Limits | None = None,
    allowed_folders: Sequence[Path] | None = None,
    name_pattern: str = "",
) -> ImportReport:
    """Make a task of every image in `folder` and below that the project does not have yet.

    Args:
        studio: where to.
        project: its number.
        folder: where from; of a data set with `images/` and `masks/` the images are taken.
        shelf: how images come to Label Studio: `Uploads` or `LocalFiles`.
        limits: what images may measure.
        allowed_folders: where the backend may read originals; None: the tasks name no originals.
        name_pattern: regular expression with groups `sequence` and `frame`, in place of the built-in rules.

    Raises:
        CannotImport: there are no images, or their originals could not be read later.
        StudioError: Label Studio refuses; running again goes on where this stopped.
        BadPattern: `name_pattern` cannot be used.
    """
    root = image_root(folder)
    config = LabelConfig.parse(str(studio.project(project).get("label_config", "")))
    pattern = compile_pattern(name_pattern) if name_pattern else None
    known = {str(row["data"].get("sha256")) for row in studio.task_rows(project)}
    report = ImportReport()
    for batch in _batches(_pictures(root, known, limits or Limits(), report)):
        if allowed_folders is not None:
            _require_readable_originals(batch, allowed_folders)
        placed = shelf.place(batch)
        tasks = [
            _task(picture, fields, config.image_field, pattern, allowed_folders is not None)
            for picture, fields in zip(batch, placed, strict=True)
        ]
        report.imported += studio.import_tasks(project, tasks)
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `import`."""
    parser.description = "Make tasks of the images in a folder; run again, it goes on where it stopped."
    parser.add_argument("folder", type=Path, help="PNG, JPEG, TIFF, BMP; subfolders too")
    parser.add_argument("--project", type=int, required=True, metavar="N", help="number of the project")
    parser.add_argument("--url", default="", help="Label Studio's address (default: as connected)")
    parser.add_argument("--token", default="", help="legacy or personal access token (default: as connected)")
    parser.add_argument(
        "--names",
        default="",
        metavar="PATTERN",
        help=r"how paths name sequence and frame, such as (?P<sequence>[^/]+)/(?P<frame>\d+)$",
    )
    parser.add_argument(
        "--no-originals", action="store_true", help="learn from the 8-bit proxies of TIFF and 16-bit images"
    )
    parser.add_argument(
        "--local-files",
        type=Path,
        metavar="ROOT",
        help="upload nothing: Label Studio serves ROOT (its LOCAL_FILES_DOCUMENT_ROOT), which holds FOLDER",
    )
    parser.add_argument(
        "--studio-root", default="", metavar="PATH", help="that folder as Label Studio's own machine names it"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Import, and print what became of the files; 1 when some are no images."""
    url, token = _connection(args, settings)
    folders = [Path(folder) for folder in settings.allowed_image_folders.split(":") if folder]
    with Studio(url, token) as studio:
        root = image_root(args.folder)
        shelf: Shelf = Uploads(studio, args.project)
        if args.local_files:
            shelf = LocalFiles(studio, args.project, root, args.local_files, args.studio_root)
        report = import_folder(
            studio,
            args.project,
            root,
            shelf,
            limits=Limits(settings.max_image_bytes, settings.max_image_pixels),
            allowed_folders=None if args.no_originals else folders,
            name_pattern=args.names,
        )
    sys.stdout.write(f"{report.as_text()}\n")
    return 1 if report.bad else 0


def _connection(args: argparse.Namespace, settings: Settings) -> tuple[str, str]:
    """What was given, else what `connect` remembered."""
    url = args.url or settings.label_studio_url
    token = args.token or settings.label_studio_api_key.get_secret_value()
    if not (url and token):
        known = Projects.of(settings).get(args.project).connection
        if known is not None and not args.url:
            url, token = known.url, args.token or known.token.get_secret_value()
    return (
        required(url, "--url", "LABEL_STUDIO_URL"),
        required(token, "--token", "LABEL_STUDIO_API_KEY"),
    )


def image_root(folder: Path) -> Path:
    """Absolute folder of the images: `images/` where `masks/` lies beside it; raises `CannotImport`."""
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise CannotImport(f"{folder} is not a folder; give the path of a folder of images.")
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return root / "images"
    return root


def _files(root: Path) -> list[Path]:
    """Images by their extension, hidden ones left out, 2 before 10."""
    found = [
        path
        for path in root.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    ]
    if not found:
        raise CannotImport(f"{root} holds no PNG, JPEG, TIFF or BMP images.")
    return sorted(found, key=lambda path: _natural(path.relative_to(root).as_posix()))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]


def _pictures(root: Path, known: set[str], limits: Limits, report: ImportReport) -> Iterator[Picture]:
    for path in tqdm(_files(root), desc="import", unit="image", disable=None):
        name = path.relative_to(root).as_posix()
        try:
            sha256 = _sha256(path)
            if sha256 in known:
                report.known += 1
                continue
            yield Picture(path, name, sha256, proxy_of(path, limits))
            known.add(sha256)
        except (BadImage, OSError) as error:
            report.bad.append(str(error))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    batch: list[Picture] = []
    size = 0
    for picture in pictures:
        batch.append(picture)
        size += len(picture.proxy) if picture.proxy is not None else picture.path.stat().st_size
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _require_readable_originals(batch: Sequence[Picture], allowed: Sequence[Path]) -> None:
    """Rather now than at every training: the backend reads originals only from folders it may read."""
    folders = [folder.expanduser().resolve() for folder in allowed]
    for picture in batch:
        if picture.proxy and not any(picture.path.is_relative_to(folder) for folder in folders):
            raise CannotImport(
                f"{picture.path} is to be learnt from as it is, but the backend may not read its folder: set "
                f"SRPU_ALLOWED_IMAGE_FOLDERS={picture.path.parent} for backend, trainer and this command, or "
                "give --no-originals to learn from 8-bit proxies."
            )


def _task(
    picture: Picture,
    fields: dict[str, Any],
    image_field: str,
    pattern: re.Pattern[str] | None,
    with_original: bool,
) -> dict[str, Any]:
    frame_name = parse_name(picture.name, pattern)
    data = {
        image_field: fields["image"],
        "name": picture.name,
        "sha256": picture.sha256,
        "sequence": frame_name.sequence,
        "frame": frame_name.frame,
        "original": str(picture.path) if picture.proxy and with_original else None,
    }
    rest = {name: value for name, value in fields.items() if name != "image"}
    return {"data": {name: value for name, value in data.items() if value is not None}, **rest}
