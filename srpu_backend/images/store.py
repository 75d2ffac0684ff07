"""Reference in, checked file out."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from srpu_backend.images.cache import Entry, ImageCache
from srpu_backend.images.download import Authoriser, Downloader, Fetched, HashedFile, Validators
from srpu_backend.images.references import (
    ImageUnavailable,
    Inline,
    LocalFile,
    Permissions,
    Remote,
    Target,
    Unreachable,
    resolve,
    shown,
)
from srpu_backend.projects import Connection
from srpu_backend.settings import Settings
from srpu_backend.studio import TokenKeeper
from training.data.micrograph import BadImage, Limits, image_format, image_size, read_micrograph

log = logging.getLogger(__name__)

_EXTENSIONS = {"png": "png", "jpeg": "jpg", "tiff": "tif", "bmp": "bmp"}
_ASK_AGAIN_AFTER = 60.0
"""Seconds for which an image is taken as unchanged; then its server is asked, which costs it a 304."""
_ASK_AGAIN_WITHOUT_VALIDATORS = 3600.0
"""The same for servers that must send the whole image to say that it is unchanged."""
_COPY_CHUNK = 2**20


class ImageStore:
    """Fetches what image references name into a content-addressed cache. Safe for threads and processes.

    `root` is `MODEL_DIR/images`; `authorise` gives the header for Label Studio; `now` is Unix time.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path | None = None,
        *,
        authorise: Authoriser | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.limits = Limits(settings.max_image_bytes, settings.max_image_pixels)
        self._cache = ImageCache(root or settings.model_dir / "images")
        self._allowed = Permissions(
            hosts=tuple(filter(None, map(str.strip, settings.allowed_image_hosts.split(",")))),
            folders=tuple(map(Path, filter(None, settings.allowed_image_folders.split(":")))),
        )
        self._downloader = Downloader(
            authorise or TokenKeeper(settings.image_timeout),
            self._allowed,
            settings.image_timeout,
            settings.max_image_bytes,
        )
        self._now = now

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path:
        """The file that `reference` names: `images/ab/<sha256>.<ext>`, within the limits, of a known format.

        `task_id` is needed for cloud storages (`s3:`, `gs:`, `azure-blob:`), which Label Studio resolves by
        task. An image whose server is away is served from the cache. Raises `ImageUnavailable`, one sentence.
        """
        target = resolve(reference, connection, self._allowed, task_id)
        name = shown(reference)
        key = _key(target, reference, connection)
        known = self._cache.lookup(key)
        if known is not None and self._is_fresh(target, known[0]):
            return known[1]
        with self._cache.only_one(key):
            known = self._cache.lookup(key)  # another may have fetched it while we waited
            if known is not None and self._is_fresh(target, known[0]):
                return known[1]
            try:
                return self._refresh(key, target, connection, known, name)
            except Unreachable as error:
                if known is None:
                    raise
                log.warning("The copy in the cache stands in: %s", error)
                return known[1]
            except OSError as error:
                raise ImageUnavailable(f"{name} cannot be kept in the image cache: {error}.") from error

    def load(
        self, reference: str, connection: Connection | None, task_id: int | None = None
    ) -> npt.NDArray[Any]:
        """The pixels: uint8 or uint16 `(H, W)` grey, as `read_micrograph` gives them."""
        path = self.fetch(reference, connection, task_id)
        try:
            pixels: npt.NDArray[np.uint8 | np.uint16] = read_micrograph(path, self.limits, shown(reference))
        except BadImage as error:
            raise ImageUnavailable(str(error)) from None
        return pixels

    def _is_fresh(self, target: Target, entry: Entry) -> bool:
        if isinstance(target, LocalFile):
            return False  # asking costs a stat
        if isinstance(target, Inline) or target.immutable:
            age = math.inf
        elif entry.etag or entry.last_modified:
            age = _ASK_AGAIN_AFTER
        else:
            age = _ASK_AGAIN_WITHOUT_VALIDATORS
        return 0 <= self._now() - entry.checked_at < age or age == math.inf

    def _refresh(
        self,
        key: str,
        target: Target,
        connection: Connection | None,
        known: tuple[Entry, Path] | None,
        name: str,
    ) -> Path:
        validators = Validators(known[0].etag, known[0].last_modified) if known else Validators()
        with self._cache.incoming() as (file, path):
            fetched = self._bring(target, connection, validators, file, name)
            if fetched is None and known is not None:
                self._cache.remember(key, known[0].model_copy(update={"checked_at": self._now()}))
                return known[1]
            if fetched is None:
                raise Unreachable(f"{name}: its server says it has not changed, though we never had it.")
            file.flush()
            entry = self._checked(fetched, path, name)
            final = self._cache.adopt(file, path, entry)
        self._cache.remember(key, entry)
        return final

    def _bring(
        self,
        target: Target,
        connection: Connection | None,
        validators: Validators,
        file: BinaryIO,
        name: str,
    ) -> Fetched | None:
        if isinstance(target, Remote):
            return self._downloader.get(target, connection, validators, file, name)
        out = HashedFile(file, self.limits.max_bytes, name)
        if isinstance(target, Inline):
            out.write(target.data)
            return out.done(Validators())
        return _copy(target.path, validators, out, name)

    def _checked(self, fetched: Fetched, path: Path, name: str) -> Entry:
        """What arrived, once its first bytes and its header have been looked at; nothing is decoded."""
        try:
            kind = image_format(path, name)
            self.limits.check(name, fetched.size, image_size(path, name))
        except BadImage as error:
            raise ImageUnavailable(str(error)) from None
        return Entry(
            sha256=fetched.sha256,
            extension=_EXTENSIONS[kind],
            size=fetched.size,
            etag=fetched.validators.etag,
            last_modified=fetched.validators.last_modified,
            checked_at=self._now(),
        )


def _copy(path: Path, known: Validators, out: HashedFile, name: str) -> Fetched | None:
    """A local file into the cache, so that what a snapshot was made of never changes under it."""
    try:
        if not path.is_file() and path.exists():  # a folder; a pipe, which may never end
            raise ImageUnavailable(f"{name} is not a file; give the path of an image.")
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
            if etag == known.etag:
                return None
            out.check(status.st_size)
            while data := file.read(_COPY_CHUNK):
                out.write(data)
    except FileNotFoundError:
        raise ImageUnavailable(
            f"{name} does not exist; it may have been moved, or its disk not be mounted."
        ) from None
    except OSError as error:
        raise ImageUnavailable(f"{name} cannot be copied: {error.strerror}.") from None
    return out.done(Validators(etag))


def _key(target: Target, reference: str, connection: Connection | None) -> str:
    """What the cache knows a reference by: where it leads, or the reference where that hangs on the task."""
    if isinstance(target, LocalFile):
        return f"file {target.path}"
    if isinstance(target, Inline) or (target.vouches and connection is not None):
        return f"{connection.url if connection else ''} {reference.strip()}"
    return target.url
