"""What an image reference in a task means, and whether it may be followed; nothing is opened here.

Anyone who may import a task may write anything into it, so a reference is followed only to the connected
Label Studio (and there only to what serves images, not to its API), to hosts and folders that the
administrator allowed, and to what the task itself holds.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlencode, urljoin, urlsplit, urlunsplit

from model_zoo.errors import SRPUError
from srpu_backend.projects import Connection

_PORTS = {"http": 80, "https": 443}
_STORAGE_SCHEMES = ("s3", "gs", "azure-blob")
_MEDIA_PATH = re.compile(r"/(?:data/upload/|data/local-files/?$|storage-data/uploaded/?$)")
_RESOLVE_PATH = re.compile(r"/(?:tasks|projects)/\d+/(?:resolve|presign)/?$")
_UPLOAD = "/data/upload/"
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_USER = re.compile(r"^([A-Za-z][\w+.-]*://)[^/?#]*@")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHOWN_CHARACTERS = 200


class ImageUnavailable(SRPUError):
    """An image that could not be had; the task it belongs to fails, no other does."""


class Unreachable(ImageUnavailable):
    """An image whose server did not answer just now: an older copy may stand in."""


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: who is asked, and therefore who may see a token."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an http(s) URL; raises `ValueError` when it has none that can be relied upon."""
        parts = urlsplit(url)
        if _CONTROL.search(url) or parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("it is not an http or https address")
        if parts.username is not None or parts.password is not None:
            raise ValueError("it carries a user name")
        if not _HOST.fullmatch(parts.hostname):
            raise ValueError("its host has other characters than letters, digits, points and dashes")
        return cls(parts.scheme, parts.hostname.rstrip("."), parts.port or _PORTS[parts.scheme])

    @property
    def netloc(self) -> str:
        """Host, with the port unless it is the scheme's own (a presigned URL signs it without)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def is_in(self, allowed: Sequence[str]) -> bool:
        """Whether `host` or `host:port` is among the allowed ones."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return not {host, f"{host}:{self.port}"}.isdisjoint(entry.strip().lower() for entry in allowed)


@dataclass(frozen=True)
class Remote:
    """Something to ask over HTTP."""

    url: str
    """Rebuilt from its parsed parts, so that what is asked is what was checked."""
    authorised: bool
    """Whether it is Label Studio, who wants our token."""
    immutable: bool = False
    """Uploads: Label Studio gives every upload a new name."""
    vouches: bool = False
    """Label Studio's resolve endpoint: the storage it redirects to is one its administrator connected."""


@dataclass(frozen=True)
class LocalFile:
    """A file within an allowed folder, symbolic links resolved."""

    path: Path


@dataclass(frozen=True)
class Inline:
    """The image itself, in a `data:` URL."""

    data: bytes


Target = Remote | LocalFile | Inline


@dataclass(frozen=True)
class Permissions:
    """Where references may lead besides the connected Label Studio."""

    hosts: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()


def shown(reference: object) -> str:
    """The reference as error messages quote it: short, on one line, without signatures and passwords."""
    if not isinstance(reference, str):
        return f"{reference!r:.80}"
    if reference.startswith("data:"):
        return reference[:32] + "…"
    if "?" in reference and "?d=" not in reference:
        reference = reference.split("?", 1)[0] + "?…"
    reference = _CONTROL.sub("�", _USER.sub(r"\1…@", reference))
    return reference if len(reference) <= _SHOWN_CHARACTERS else reference[:_SHOWN_CHARACTERS] + "…"


def resolve(
    reference: object, connection: Connection | None, allowed: Permissions, task_id: int | None = None
) -> Target:
    """Where to get the image; raises `ImageUnavailable` when the reference may not or cannot be followed."""
    if not isinstance(reference, str) or not reference.strip():
        raise ImageUnavailable("The task has no image: its image field is empty or not a text.")
    reference = reference.strip()
    scheme = reference.split(":", 1)[0].lower() if re.match(r"[A-Za-z][\w+.-]+:", reference) else ""
    if scheme == "data":
        return _inline(reference)
    if scheme in _PORTS:
        return _web(reference, connection, allowed)
    if scheme in _STORAGE_SCHEMES:
        return _cloud(reference, connection, task_id)
    if scheme == "file":
        parts = urlsplit(reference)
        if parts.netloc not in ("", "localhost"):
            raise ImageUnavailable(f"{shown(reference)} names another machine; use file:///path.")
        return _local(unquote(parts.path), allowed)
    if scheme:
        raise ImageUnavailable(
            f"{shown(reference)} cannot be fetched: {scheme}: is not supported; upload the image to Label "
            "Studio or connect its storage there."
        )
    path = _studio_path(reference, connection)
    return _studio(path, reference, connection) if path is not None else _local(reference, allowed)


def redirected(url: str, location: str) -> tuple[str, Origin]:
    """The URL, rebuilt from its parts, and the origin that a redirect from `url` leads to; `ValueError`."""
    target = urljoin(url, location)
    origin = Origin.of(target)
    return _rebuilt(origin, urlsplit(target)), origin


def is_media(url: str, connection: Connection) -> bool:
    """Whether a URL on the connected Label Studio is one that serves images."""
    return _studio_path(_path_and_query(urlsplit(url)), connection) is not None


def _inline(reference: str) -> Inline:
    head, comma, body = reference.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageUnavailable(f"{shown(reference)} is not a base64 image; upload the image instead.")
    try:
        return Inline(base64.b64decode(body, validate=True))
    except (binascii.Error, ValueError):
        raise ImageUnavailable(f"{shown(reference)} is not valid base64; upload the image instead.") from None


def _web(reference: str, connection: Connection | None, allowed: Permissions) -> Remote:
    try:
        parts, origin = urlsplit(reference), Origin.of(reference)
    except ValueError as error:
        raise ImageUnavailable(f"{shown(reference)} cannot be fetched: {error}.") from None
    ours = connection is not None and origin == origin_of(connection)
    if not ours and origin.is_in(allowed.hosts):
        return Remote(_rebuilt(origin, parts), authorised=False)
    # Storages that were synchronised while Label Studio had another name (localhost, a container's) leave
    # that name in their tasks. The path is asked of the Label Studio we know; the other host is never met.
    path = _studio_path(_path_and_query(parts), connection)
    if path is not None:
        return _studio(path, reference, connection)
    if ours:
        raise ImageUnavailable(f"{shown(reference)} is no image of Label Studio; use an upload or a storage.")
    raise ImageUnavailable(
        f"{shown(reference)} is on another host; add {origin.netloc} to SRPU_ALLOWED_IMAGE_HOSTS to fetch it."
    )


def _cloud(reference: str, connection: Connection | None, task_id: int | None) -> Remote:
    if not isinstance(task_id, int):  # it comes from a request, whatever its type says
        raise ImageUnavailable(f"{shown(reference)} needs the id of its task to be resolved by Label Studio.")
    code = base64.urlsafe_b64encode(reference.encode()).decode()
    return _studio(f"/tasks/{task_id}/resolve/?{urlencode({'fileuri': code})}", reference, connection)


def _studio(path: str, reference: str, connection: Connection | None) -> Remote:
    if connection is None:
        raise ImageUnavailable(
            f"{shown(reference)} lies in Label Studio, but no Label Studio is connected yet; "
            "connect this backend or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
        )
    origin, base = origin_of(connection), urlsplit(connection.url).path.rstrip("/")
    return Remote(
        f"{origin.scheme}://{origin.netloc}{base}{path}",
        authorised=True,
        immutable=path.startswith(_UPLOAD),
        vouches=bool(_RESOLVE_PATH.match(path.split("?", 1)[0])),
    )


def _studio_path(reference: str, connection: Connection | None) -> str | None:
    """The path (and query) below Label Studio's root if the reference is one that serves images there."""
    path, question, query = reference.partition("?")
    base = urlsplit(connection.url).path.rstrip("/") if connection else ""
    if base and path.startswith(base + "/"):
        path = path[len(base) :]
    if ".." in re.split(r"[/\\]", unquote(path)) or _CONTROL.search(path + query):
        return None
    if _MEDIA_PATH.match(path) or _RESOLVE_PATH.match(path):
        return path + question + query
    return None


def _local(reference: str, allowed: Permissions) -> LocalFile:
    """Symbolic links are followed first, so that a link within a folder leads nowhere outside."""
    within: dict[Path, bool] = {}
    for folder in allowed.folders:
        try:
            root, path = folder.resolve(), (folder / reference).resolve()
            if path.is_relative_to(root):
                within[path] = path.exists()
        except (OSError, RuntimeError, ValueError):  # loops of links, names no file can have, no permission
            continue
    if within:  # a relative path may be meant in any of the folders
        return LocalFile(max(within, key=lambda path: within[path]))
    raise ImageUnavailable(
        f"{shown(reference)} is not in a folder that may be read; add its folder to "
        "SRPU_ALLOWED_IMAGE_FOLDERS, or upload the image to Label Studio."
    )


def origin_of(connection: Connection) -> Origin:
    """Origin of the connected Label Studio; raises `ImageUnavailable` when its address is no address."""
    try:
        return Origin.of(connection.url)
    except ValueError as error:
        raise ImageUnavailable(f"Label Studio's address cannot be used: {error}.") from None


def _rebuilt(origin: Origin, parts: SplitResult) -> str:
    return urlunsplit((origin.scheme, origin.netloc, parts.path or "/", parts.query, ""))


def _path_and_query(parts: SplitResult) -> str:
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
