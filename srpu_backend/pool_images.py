"""The images of a project's tasks, looked at once: which content each has, and its embedding.

`embeddings/tasks.sqlite` says what each task's image is; the embeddings lie beside it by content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from srpu_backend.frames import image_reference, place_of
from srpu_backend.images import ImageUnavailable
from srpu_backend.mirror import MirroredTask
from srpu_backend.prediction_files import content_key
from srpu_backend.projects import Connection, Project
from training.active_learning.embedders import Embedder
from training.active_learning.embeddings import EmbeddingStore
from training.active_learning.images import digest_of
from training.data.micrograph import BadImage, read_micrograph
from training.data.near_duplicates import describe

_AT_ONCE = 16  # images whose embeddings are written together
_RETRY_AFTER = timedelta(minutes=10)
_GIVE_UP_AFTER = 20
"""Images in a row that cannot be had: then it is not the images."""
_SCHEMA = """
create table if not exists images (
    task integer primary key,
    seen text not null,          -- what the task was when we looked: its marker
    reference text not null,
    digest text not null,        -- sha256 of the image, '' while it cannot be had
    sequence text not null,      -- shared by the frames of one sequence, else the task's own
    content text not null,       -- key of the task's data, by which its doubts are kept
    retry_at real not null default 0
) without rowid;
"""


class ImageFiles(Protocol):
    """The part of `ImageStore` that looking at images needs."""

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path: ...


@dataclass(frozen=True)
class TaskImage:
    """What is known of a task's image."""

    task: int
    digest: str
    sequence: str
    content: str


@dataclass(frozen=True)
class _Look:
    task: MirroredTask
    digest: str
    vector: NDArray[np.float32] | None = None
    description: bytes | None = None


class PoolImages:
    """The looked-at images of one project."""

    def __init__(self, project: Project, embedder: Embedder) -> None:
        self._project = project
        self._embedder = embedder
        self._field = project.label_config.image_field
        folder = project.root / "embeddings"
        self.store = EmbeddingStore(folder, embedder.identity, embedder.width)
        self._path = folder / "tasks.sqlite"

    def look_at_new(
        self, images: ImageFiles, clock: Callable[[], datetime], go_on: Callable[[], None]
    ) -> int:
        """Embed what came or changed since last time; returns how many images were looked at.

        One that cannot be had is named in the project's problems and put off. `go_on` is called before each
        and may raise to give up; what was looked at by then is kept.
        """
        fresh = self._project.mirror.some(self._unseen(clock()))
        looks = self._looks(fresh, images, clock, go_on)
        count = 0
        while some := list(islice(looks, _AT_ONCE)):
            self._keep(some)
            count += len(some)
        return count

    def known(self) -> dict[int, TaskImage]:
        """Task → image, of those that could be had."""
        with self._connection() as connection:
            rows = connection.execute("select task, digest, sequence, content from images where digest <> ''")
            return {row[0]: TaskImage(*row) for row in rows}

    def _unseen(self, now: datetime) -> list[int]:
        with self._connection() as connection:
            rows = connection.execute("select task, seen, digest, retry_at from images").fetchall()
        embedded = self.store.rows([row[2] for row in rows if row[2]])
        settled = {
            task: seen
            for task, seen, digest, retry_at in rows
            if (digest in embedded) or (not digest and retry_at > now.timestamp())
        }
        markers = self._project.mirror.markers()
        self._forget({row[0] for row in rows} - markers.keys())
        return sorted(id for id, marker in markers.items() if settled.get(id) != self._seen(marker))

    def _looks(
        self,
        tasks: Iterator[MirroredTask],
        images: ImageFiles,
        clock: Callable[[], datetime],
        go_on: Callable[[], None],
    ) -> Iterator[_Look]:
        in_vain = 0
        for task in tasks:
            go_on()
            try:
                yield self._look(task, images)
                in_vain = 0
            except (ImageUnavailable, BadImage, OSError) as error:
                self._project.note_problem("rank", f"Task {task.id}: {error}")
                self._note(task, "", clock() + _RETRY_AFTER)
                in_vain += 1
                if in_vain >= _GIVE_UP_AFTER:
                    return

    def _look(self, task: MirroredTask, images: ImageFiles) -> _Look:
        reference = image_reference(task.data, self._field)
        if reference is None:
            raise BadImage(f"It has no data.{self._field}, which the label config shows as its image.")
        path = images.fetch(reference, self._project.connection, task.id)
        data = path.read_bytes()
        digest = digest_of(data)
        if self.store.rows([digest]):
            return _Look(task, digest)
        pixels = read_micrograph(data, name=str(path))
        return _Look(task, digest, self._embedder(pixels), describe(pixels))

    def _keep(self, looks: list[_Look]) -> None:
        new = [(look, look.vector) for look in looks if look.vector is not None]
        if new:
            vectors = np.stack([vector for _, vector in new])
            self.store.add([look.digest for look, _ in new], vectors, [look.description for look, _ in new])
        for look in looks:
            self._note(look.task, look.digest)

    def _note(self, task: MirroredTask, digest: str, retry_at: datetime | None = None) -> None:
        place = place_of(task.data, self._field)
        sequence = f"{place.folder}/{place.sequence}" if place is not None else f"#{task.id}"
        row = (
            task.id,
            self._seen(task.marker),
            image_reference(task.data, self._field) or "",
            digest,
            sequence,
            content_key(task.id, task.data),
            retry_at.timestamp() if retry_at is not None else 0.0,
        )
        with self._connection() as connection:
            connection.execute("insert or replace into images values (?, ?, ?, ?, ?, ?, ?)", row)

    def _forget(self, gone: set[int]) -> None:
        if gone:
            with self._connection() as connection:
                connection.executemany("delete from images where task = ?", [(id,) for id in gone])

    def _seen(self, marker: str) -> str:
        return f"{self._field} {marker}"  # another label config may show another field

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.executescript(_SCHEMA)
            with connection:
                yield connection
