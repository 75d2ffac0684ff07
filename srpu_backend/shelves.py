"""How images come to where Label Studio serves them: uploaded, or from a folder that it sees."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import quote

from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from srpu_backend.studio import Studio


class NotServed(SRPUError):
    """A folder that Label Studio does not serve."""


@dataclass(frozen=True)
class Picture:
    """One file, read and found to be an image."""

    path: Path
    """Absolute."""
    name: str
    """Relative to the folder that is imported, with slashes."""
    sha256: str
    """Of the file."""
    proxy: bytes | None
    """PNG to show in its place; None when it is shown itself."""

    @property
    def shown_name(self) -> str:
        """Relative name of what is shown."""
        return self.name if self.proxy is None else str(PurePosixPath(self.name).with_suffix(".png"))


class Shelf(Protocol):
    """Brings what is shown to where Label Studio serves it."""

    def place(self, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """Per picture its reference as `image`, and what else its task needs beside its data."""
        ...


class Uploads:
    """Copies into Label Studio; works wherever it runs."""

    def __init__(self, studio: Studio, project: int) -> None:
        self._studio, self._project = studio, project

    def place(self, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """Upload what is shown; our own copies of proxies are gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="srpu-import-") as folder:
            files: dict[str, Path] = {}
            for picture in pictures:
                file = picture.path
                if picture.proxy is not None:
                    file = Path(folder, f"{picture.sha256}.png")
                    file.write_bytes(picture.proxy)
                files[_upload_name(picture, files)] = file
            uploads = self._studio.upload(self._project, files)
        return [{"image": upload.reference, "file_upload_id": upload.id} for upload in uploads]


class LocalFiles:
    """Leaves images where they are; proxies go to a folder beside them, named `…-proxies`.

    Args:
        studio: where to.
        project: its number.
        folder: absolute, of the images.
        root: Label Studio's LOCAL_FILES_DOCUMENT_ROOT as this machine names it; holds `folder`.
        studio_root: the same as Label Studio's machine names it; "" when that is alike.

    Raises:
        NotServed: `folder` is not below `root`.
        StudioError: Label Studio does not serve local files, or not these.
    """

    def __init__(self, studio: Studio, project: int, folder: Path, root: Path, studio_root: str = "") -> None:
        self._root = root.expanduser().resolve()
        if folder == self._root or not folder.is_relative_to(self._root):
            raise NotServed(
                f"{folder} is not a folder below {root}: Label Studio serves only subfolders of its "
                "LOCAL_FILES_DOCUMENT_ROOT; move the images there, or import without --local-files."
            )
        self._studio, self._project, self._folder = studio, project, folder
        self._studio_root = PurePosixPath(studio_root or self._root.as_posix())
        self._proxies = folder.with_name(f"{folder.name}-proxies")
        self._served: set[str] = {str(s["path"]) for s in studio.local_storages(project)}

    def place(self, pictures: Sequence[Picture]) -> list[dict[str, Any]]:
        """Write the proxies, and see to it that Label Studio serves both folders to the project."""
        return [{"image": self._reference(self._shown(picture))} for picture in pictures]

    def _shown(self, picture: Picture) -> Path:
        if picture.proxy is None:
            self._serve(self._folder)
            return picture.path
        path = self._proxies / picture.shown_name
        if path.exists() and path.read_bytes() != picture.proxy:
            path = path.with_name(f"{picture.sha256[:8]}-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, picture.proxy)
        self._serve(self._proxies)
        return path

    def _serve(self, folder: Path) -> None:
        path = str(self._studio_root / folder.relative_to(self._root).as_posix())
        if path not in self._served:
            self._studio.create_local_storage(self._project, path)
            self._served.add(path)

    def _reference(self, path: Path) -> str:
        return f"/data/local-files/?d={quote(path.relative_to(self._root).as_posix())}"


def _upload_name(picture: Picture, taken: dict[str, Path]) -> str:
    """Folders become part of the name: they may name the specimen. Never the same name twice."""
    name = picture.shown_name.replace("/", "__")
    return name if name not in taken else f"{picture.sha256[:8]}-{name}"
