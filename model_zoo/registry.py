"""A project's model versions: immutable folders, and a pointer to the one that serves.

Every change is one rename, so a process may be killed at any moment: a version is there or is not,
the champion is the old one or the new one. Standard library (and cards) only: no torch.

    <root>/v0003-ab12cd/     model.safetensors, model.onnx, card.json; never changed
    <root>/champion          JSON: the champion, those before it, and the event that made it so
    <root>/history.jsonl     every event, for people; the pointer alone decides
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from model_zoo.card import CARD_NAME, STATE_NAME, Frozen, ModelCard
from model_zoo.errors import BrokenModel, UnknownVersion
from model_zoo.files import locked, sync, write_atomically
from model_zoo.integrity import MODEL_FILES, file_hashes, verify

_log = logging.getLogger(__name__)
_VERSION = re.compile(r"v(\d{4,})-[0-9a-f]{6}")
_UNFINISHED = ".incoming-"


class Event(Frozen):
    """One line of a registry's history."""

    at: datetime
    action: Literal["publish", "promote", "rollback"]
    version: str
    previous: str | None = None
    """The champion before; None at the first promotion and for `publish`."""
    reason: str = ""


class Pointer(Frozen):
    """The champion and those it replaced, newest first: what a rollback goes through."""

    champion: str
    earlier: tuple[str, ...] = ()
    event: Event


class Registry:
    """The versions in one folder, shared by processes: writers take a lock, readers need none."""

    def __init__(self, root: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self._now = now
        self._pointer_path = root / "champion"
        self._history_path = root / "history.jsonl"

    def versions(self) -> list[str]:
        """Published versions, oldest first; half-written folders are not among them."""
        if not self.root.is_dir():
            return []
        names = (path.name for path in self.root.iterdir() if (path / CARD_NAME).is_file())
        return sorted((name for name in names if _VERSION.fullmatch(name)), key=_number)

    def cards(self) -> list[ModelCard]:
        """Cards of all versions, oldest first; one that cannot be read is left out and logged."""
        cards = []
        for version in self.versions():
            try:
                cards.append(ModelCard.read(self.root / version))
            except BrokenModel as error:
                _log.error("Version %s is left out: %s", version, error)
        return cards

    def folder(self, version: str) -> Path:
        """Folder of a published version; raises `UnknownVersion` with those there are."""
        versions = self.versions()
        if version not in versions:
            known = ", ".join(versions) or "none yet"
            raise UnknownVersion(f"There is no version {version!r} in {self.root}; versions: {known}.")
        return self.root / version

    def card(self, version: str) -> ModelCard:
        """Card of a published version; raises `UnknownVersion` or `BrokenModel`."""
        return ModelCard.read(self.folder(version))

    def verify(self, version: str) -> Path:
        """Folder of a version whose files are unchanged; raises `UnknownVersion`, `BrokenModel`."""
        folder = self.folder(version)
        verify(folder, ModelCard.read(folder))
        return folder

    def next_version(self, suffix: str) -> str:
        """`v0003-<suffix>`: one above every number ever used, also by folders since removed.

        `suffix` is six lower-case hexadecimal digits, such as the start of a data hash.
        """
        used = [*self.versions(), *(event.version for event in self.history())]
        version = f"v{max(map(_number, used), default=0) + 1:04d}-{suffix}"
        _refuse_name(version)
        return version

    def publish(self, folder: Path, card: ModelCard) -> Path:
        """Copy the model files of `folder`, with `card`, into a new version; `folder` is left alone.

        Doing it again with the same files is harmless, so that an interrupted step can be repeated.
        Raises `BrokenModel` when files are missing, do not match the card, or the version exists
        with other content.
        """
        _refuse_name(card.version)
        hashes = file_hashes(folder)
        if STATE_NAME not in hashes:
            raise BrokenModel(f"{folder} cannot be published: {STATE_NAME} is missing.")
        if card.files and card.files != hashes:
            raise BrokenModel(f"{folder} cannot be published: its files are not those its card lists.")
        card = card.model_copy(update={"files": hashes})
        with self._locked():
            published = self.root / card.version
            if published.exists():
                _refuse_other_content(published, hashes)
            else:
                self._write_version(folder, card, published)
                event = Event(at=self._now(), action="publish", version=card.version)
                self._append(event)
        return published

    def champion(self) -> str | None:
        """The version that serves, or None before the first promotion; raises `BrokenModel`."""
        pointer = self._pointer()
        return pointer.champion if pointer else None

    def promote(self, version: str, reason: str) -> None:
        """Make `version` the champion; nothing happens when it is. Raises `UnknownVersion`, `BrokenModel`."""
        self.verify(version)
        with self._locked():
            pointer = self._pointer()
            if pointer is not None and pointer.champion == version:
                return
            earlier = (pointer.champion, *pointer.earlier) if pointer else ()
            self._point("promote", version, earlier, reason)

    def rollback(self, reason: str = "") -> str:
        """Make the champion before this one champion again, and return it; again goes further back.

        Versions that are gone or damaged are passed over. Raises `UnknownVersion` when none is left.
        """
        with self._locked():
            pointer = self._pointer()
            candidates = pointer.earlier if pointer else ()
            for place, version in enumerate(candidates):
                try:
                    self.verify(version)
                except (UnknownVersion, BrokenModel) as error:
                    _log.warning("Rolling back past %s: %s", version, error)
                    continue
                self._point("rollback", version, candidates[place + 1 :], reason)
                return version
        raise UnknownVersion(f"There is no earlier champion in {self.root} to roll back to.")

    def history(self) -> list[Event]:
        """Everything that happened, oldest first; a line torn by a crash is passed over."""
        events = list(self._logged())
        pointer = self._pointer()
        if pointer is not None and pointer.event not in events:
            events.append(pointer.event)  # killed between swapping the pointer and telling so
        return events

    def _logged(self) -> Iterator[Event]:
        if not self._history_path.is_file():
            return
        for number, line in enumerate(self._history_path.read_text("utf-8", "replace").splitlines(), 1):
            try:
                yield Event.model_validate_json(line)
            except ValidationError:
                _log.warning("%s line %d is torn and passed over", self._history_path, number)

    def _pointer(self) -> Pointer | None:
        try:
            return Pointer.model_validate_json(self._pointer_path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError) as error:
            raise BrokenModel(
                f"{self._pointer_path} cannot be read ({error}); remove it and promote a version again."
            ) from None

    def _point(
        self, action: Literal["promote", "rollback"], version: str, earlier: tuple[str, ...], reason: str
    ) -> None:
        before = self._pointer()
        if before is not None and before.event not in self._logged():
            self._append(before.event)
        event = Event(
            at=self._now(),
            action=action,
            version=version,
            previous=before.champion if before else None,
            reason=reason,
        )
        pointer = Pointer(champion=version, earlier=earlier, event=event)
        write_atomically(self._pointer_path, pointer.model_dump_json().encode())
        self._append(event)

    def _append(self, event: Event) -> None:
        with self._history_path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line torn by a crash ends here
                    file.write(b"\n")
            file.write(json.dumps(event.model_dump(mode="json")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _write_version(self, source: Path, card: ModelCard, published: Path) -> None:
        unfinished = self.root / f"{_UNFINISHED}{card.version}"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a publisher that was killed; we hold the lock
        unfinished.mkdir()
        for name in MODEL_FILES:
            if name in card.files:
                shutil.copyfile(source / name, unfinished / name)
                sync(unfinished / name)
        card.write(unfinished)
        verify(unfinished, card)
        sync(unfinished / CARD_NAME)
        sync(unfinished)
        unfinished.rename(published)
        sync(self.root)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time among all processes; the system frees the lock of one that is killed."""
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".lock"):
            yield


def _number(version: str) -> int:
    match = _VERSION.fullmatch(version)
    return int(match.group(1)) if match else 0


def _refuse_name(version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise BrokenModel(f"{version!r} is not a version name; it must look like v0001-3fa2c1.")


def _refuse_other_content(published: Path, hashes: dict[str, str]) -> None:
    if ModelCard.read(published).files != hashes:
        raise BrokenModel(f"{published} exists with other content; versions never change, take a new number.")
