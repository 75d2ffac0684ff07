"""A dataset as the trainer sees it, whether it came from Label Studio or from a folder.

A manifest is a JSON file that lists images, their masks, the group each belongs to and the part
(train, holdout, pool) it plays. It is all that crosses from a snapshot or an index to training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from model_zoo.card import ClassInfo, Frozen
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically

IGNORE_INDEX = 255
Part = Literal["train", "holdout", "test", "pool"]


class BadManifest(SRPUError):
    """A manifest that cannot be read or contradicts itself."""


class Sample(Frozen):
    """One image, with its mask when it is labelled."""

    key: str
    """Unique in the manifest: a file's stem, or `task-17`."""
    image: Path
    """8- or 16-bit PNG, JPEG or TIFF, absolute or relative to the manifest's folder."""
    mask: Path | None = None
    """Index PNG of the image's size, pixel = class index, 255 = ignore; None when unlabelled."""
    group: str
    """Images that must never be torn between train and holdout: sequence, specimen, near-duplicates."""
    part: Part = "train"
    sequence: str | None = None
    frame: int | None = None
    frames: tuple[Path, ...] = ()
    """The `input_depth` neighbouring images, this one in the middle; empty for a single image."""
    content: str = ""
    """Hash of image and mask content, so that the manifest's hash does not depend on where files lie."""


class Manifest(Frozen):
    """Classes and samples; immutable once written."""

    classes: tuple[ClassInfo, ...]
    samples: tuple[Sample, ...]
    ignore_index: Literal[255] = 255

    def of(self, *parts: Part) -> tuple[Sample, ...]:
        """The samples that play one of `parts`, in order."""
        return tuple(sample for sample in self.samples if sample.part in parts)

    @property
    def content_hash(self) -> str:
        """sha256 over classes and, per sample, key, group, part and content."""
        facts = {
            "classes": [[c.name, c.implicit] for c in self.classes],
            "samples": sorted([s.key, s.group, s.part, s.content or str(s.image)] for s in self.samples),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write atomically; relative paths stay relative to `path`'s folder."""
        write_atomically(path, self.model_dump_json(indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest and resolve its paths against its folder; raises `BadManifest`."""
        try:
            manifest = cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise BadManifest(f"{path} does not exist; give the path of a manifest JSON.") from None
        except (ValidationError, ValueError, OSError) as error:
            raise BadManifest(f"{path} is not a manifest: {error}") from None
        folder = path.resolve().parent
        return manifest.model_copy(update={"samples": tuple(_resolved(manifest.samples, folder))})


def _resolved(samples: Iterable[Sample], folder: Path) -> Iterable[Sample]:
    for sample in samples:
        yield sample.model_copy(
            update={
                "image": folder / sample.image,
                "mask": folder / sample.mask if sample.mask is not None else None,
                "frames": tuple(folder / frame for frame in sample.frames),
            }
        )
