"""Which images there are in a folder, which of them are labelled, and what their bytes are."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from model_zoo.errors import SRPUError
from training.data.manifest_stream import read_samples
from training.data.names import parse_name, stem_of
from training.data.scan import BadFolder, image_files

_MASK_SUFFIX = re.compile(r"[ _.-](?:masks?|labels?|seg|segmentation|gt|annotation)$", re.IGNORECASE)


class BadLabeledList(SRPUError):
    """A list of labelled images that cannot be used."""


@dataclass(frozen=True)
class PoolImage:
    """One image."""

    key: str
    """Its stem, or its path within the folder where stems repeat."""
    path: Path
    group: str
    """Unique to its sequence in its folder, else to itself."""
    sequence: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class Labeled:
    """What is labelled, as somebody wrote it down."""

    names: frozenset[str]
    """Stems, keys or paths without extension."""
    paths: tuple[Path, ...] = ()
    """Images that may lie elsewhere, absolute."""
    masks: bool = False
    """Whether the names are of masks: `a_mask` may stand for `a`."""

    def spellings(self, name: str) -> set[str]:
        """What an image that is meant by one of `names` may be called."""
        plain = {stem_of(name), _plain(name)}
        return plain | {_MASK_SUFFIX.sub("", each) for each in plain} if self.masks else plain


NOTHING_LABELED = Labeled(frozenset())


def image_folder(folder: Path) -> Path:
    """Where the images lie: `images/` where there are `masks/` beside it, else the folder itself."""
    images = folder / "images"
    return images if images.is_dir() and (folder / "masks").is_dir() else folder


def list_images(folder: Path, pattern: re.Pattern[str] | None = None) -> list[PoolImage]:
    """All images below `folder` by key; raises `BadFolder` for one that is none. Nothing is opened."""
    if not folder.is_dir():
        raise BadFolder(f"{folder} is not a folder; give the folder of the images with --images.")
    found: dict[str, Path] = {}
    for path, name in image_files(folder):
        found.setdefault(name, path.absolute())
    stems = Counter(stem_of(f"{name}.png") for name in found)
    images = []
    for name, path in found.items():
        stem = stem_of(f"{name}.png")
        images.append(_image(stem if stems[stem] == 1 else name, name, path, pattern))
    return sorted(images, key=lambda image: image.key)


def read_labeled(path: Path) -> Labeled:
    """What `--labeled` says: a folder of masks, a manifest or index, or a text file of stems or paths.

    In a manifest, samples with a mask are labelled. In a text file lines that begin with # are no names.
    Raises `BadLabeledList`, and `BadManifest` for JSON that is none.
    """
    if path.is_dir():
        return Labeled(frozenset(stem_of(f"{name}.png") for _, name in image_files(path)), masks=True)
    if path.suffix.lower() == ".json":
        samples = [sample for sample in read_samples(path) if sample.mask is not None]
        # A file that is there says which image is meant; its name alone may be another's in the pool.
        lost = [sample for sample in samples if not sample.image.is_file()]
        names = frozenset(stem_of(str(sample.image)) for sample in lost)
        return Labeled(names, tuple(each.image.absolute() for each in samples if each not in lost))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise BadLabeledList(f"{path} does not exist; give a text file, a manifest or a folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadLabeledList(f"{path} cannot be read as a list of names: {error}") from None
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    paths = {entry: path.resolve().parent / entry for entry in entries}
    names = frozenset(entry for entry, each in paths.items() if not each.is_file())
    return Labeled(names, tuple(each for entry, each in paths.items() if entry not in names))


def match_labeled(
    images: list[PoolImage], folder: Path, labeled: Labeled
) -> tuple[set[str], list[PoolImage], list[str]]:
    """Keys of the labelled images; labelled images that lie elsewhere; names that fit nothing."""
    keys: set[str] = set()
    names = {spelling for name in labeled.names for spelling in labeled.spellings(name)}
    matched: set[str] = set()
    stems = Counter(stem_of(str(image.path)) for image in images)
    for image in images:
        own = {image.key, _plain(str(image.path.relative_to(folder.absolute()))), _plain(str(image.path))}
        stem = stem_of(str(image.path))
        own |= {stem} if stems[stem] == 1 else set()
        if own & names:
            keys.add(image.key)
            matched |= own
    inside = {image.path.resolve(): image.key for image in images}
    keys |= {inside[each.resolve()] for each in labeled.paths if each.resolve() in inside}
    elsewhere = [each for each in labeled.paths if each.resolve() not in inside]
    taken = {image.key for image in images}
    others = [
        _image(str(path) if stem_of(str(path)) in taken else stem_of(str(path)), str(path), path, None)
        for path in dict.fromkeys(elsewhere)
    ]
    lost = [name for name in sorted(labeled.names) if not labeled.spellings(name) & matched]
    return keys, others, lost


def frames_of(image: PoolImage, images: Iterable[PoolImage], depth: int) -> tuple[Path, ...]:
    """The `depth` neighbouring frames of an image, itself in the middle, its ends repeated."""
    if depth == 1 or image.frame is None:
        return ()
    film = sorted(
        (each for each in images if each.frame is not None), key=lambda each: (each.frame, each.key)
    )
    place = film.index(image)
    reach = depth // 2
    return tuple(film[min(max(place + step, 0), len(film) - 1)].path for step in range(-reach, reach + 1))


class Digests:
    """sha256 of files, read again only where size or time of change say so."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(self._connect()) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER,"
                " digest TEXT) WITHOUT ROWID"
            )

    def known(self, paths: Iterable[Path]) -> Iterator[tuple[Path, str | None]]:
        """Each path with its digest, None where it must be read."""
        with closing(self._connect()) as database:
            for path in paths:
                query = "SELECT size, changed, digest FROM files WHERE path = ?"
                row = database.execute(query, (str(path),)).fetchone()
                yield path, row[2] if row and row[:2] == _stamp(path) else None

    def remember(self, digests: dict[Path, str]) -> None:
        """Write down what was read."""
        with closing(self._connect()) as database, database:
            rows = ((str(path), *_stamp(path), digest) for path, digest in digests.items())
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=60)


def digest_of(data: bytes) -> str:
    """sha256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:
        return (-1, -1)
    return (facts.st_size, facts.st_mtime_ns)


def _image(key: str, name: str, path: Path, pattern: re.Pattern[str] | None) -> PoolImage:
    parsed = parse_name(f"{name}.png" if not name.endswith(path.suffix) else name, pattern)
    folder = str(path.parent)
    group = f"{folder}/{parsed.sequence}" if parsed.sequence is not None else f"{folder}/{path.name}"
    return PoolImage(key, path, group, parsed.sequence, parsed.frame if parsed.sequence else None)


def _plain(name: str) -> str:
    """A path without extension, its separators forward."""
    folder, slash, last = name.replace("\\", "/").rpartition("/")
    return folder + slash + stem_of(last)
