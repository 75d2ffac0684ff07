"""What Label Studio had when we last asked: one SQLite file a project, readable from any process.

The mirror is a copy, never a source: deleting it costs one full pull.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from training.data.label_studio_json import counting_annotation

__all__ = ["Counts", "FramePlace", "MirroredTask", "TaskMirror", "counting_annotation", "label_fingerprint"]

TaskData = tuple[int, dict[str, Any]]
"""Id and data of a task."""

_SCHEMA = """
create table if not exists tasks (
    id integer primary key,
    marker text not null,             -- changes whenever Label Studio's task or its annotations do
    data text not null,               -- JSON, as in Label Studio
    annotation text,                  -- JSON of the annotation that counts, null when there is none
    label text not null default '',   -- fingerprint of that annotation's regions, '' when there is none
    predicted text not null default '',  -- model version of the prediction Label Studio holds
    failed text not null default '',     -- model version that could not say anything about it
    retry_at real not null default 0     -- and when to try again, in seconds since 1970
);
create table if not exists masks (
    label text not null,
    config text not null,
    path text,
    problems text not null,
    primary key (label, config)
);
create table if not exists places (
    task integer primary key,
    folder text not null,
    sequence text not null,
    frame integer not null,
    name text not null
);
create index if not exists places_in_order on places (sequence, folder, frame, name, task);
create table if not exists unplaced (task integer primary key);
create table if not exists placed_by (key text not null);
"""


@dataclass(frozen=True)
class MirroredTask:
    """One task as Label Studio had it."""

    id: int
    marker: str
    data: dict[str, Any]
    annotation: dict[str, Any] | None
    """The annotation that counts, see `counting_annotation`; None: unlabelled."""
    label: str = ""
    """Fingerprint of its regions; '' when unlabelled."""
    predicted: str = ""

    @property
    def is_labelled(self) -> bool:
        """True when an annotation of it counts."""
        return self.annotation is not None


@dataclass(frozen=True)
class FramePlace:
    """Where an image stands in a sequence."""

    folder: str
    sequence: str
    frame: int
    name: str
    """Orders frames of the same number."""


@dataclass(frozen=True)
class Counts:
    """How many tasks there are, and how many of them are labelled."""

    tasks: int
    labelled: int


def label_fingerprint(annotation: Mapping[str, Any] | None) -> str:
    """Hash of what was drawn, so that a label counts as changed only when its regions did."""
    if annotation is None:
        return ""
    drawn = json.dumps(annotation["result"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(drawn.encode()).hexdigest()[:32]


class TaskMirror:
    """The tasks of one project. Every method opens, commits and closes: safe from any thread or process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.execute("pragma journal_mode=wal")  # readers never wait for the writer
            connection.executescript(_SCHEMA)
            with connection:
                yield connection

    def upsert(self, tasks: Iterable[MirroredTask]) -> None:
        """Add tasks or replace their content; what was predicted for them is kept."""
        rows = [(t.id, t.marker, _dumps(t.data), _dumps(t.annotation), t.label) for t in tasks]
        with self._connection() as connection:
            connection.executemany(
                "insert into tasks (id, marker, data, annotation, label) values (?, ?, ?, ?, ?)"
                " on conflict (id) do update set marker = excluded.marker, data = excluded.data,"
                " annotation = excluded.annotation, label = excluded.label, failed = ''",
                rows,
            )
            connection.executemany("insert or ignore into unplaced values (?)", [(row[0],) for row in rows])

    def remove(self, ids: Iterable[int]) -> None:
        """Forget tasks that are gone."""
        with self._connection() as connection:
            gone = [(id,) for id in ids]
            connection.executemany("delete from tasks where id = ?", gone)
            connection.executemany("delete from places where task = ?", gone)
            connection.executemany("delete from unplaced where task = ?", gone)

    def markers(self) -> dict[int, str]:
        """Task id → marker, of all tasks."""
        with self._connection() as connection:
            return dict(connection.execute("select id, marker from tasks"))

    def labels(self) -> dict[int, str]:
        """Task id → fingerprint of its label, of the labelled tasks."""
        with self._connection() as connection:
            return dict(connection.execute("select id, label from tasks where label <> ''"))

    def counts(self) -> Counts:
        """Number of tasks and of labelled ones."""
        with self._connection() as connection:
            row = connection.execute("select count(*), count(nullif(label, '')) from tasks").fetchone()
        return Counts(tasks=row[0], labelled=row[1])

    def labelled(self) -> Iterator[MirroredTask]:
        """The labelled tasks with their annotations, by id, one at a time."""
        yield from self._tasks("label <> ''")

    def unlabelled(self) -> Iterator[MirroredTask]:
        """The tasks without a counting annotation, by id."""
        yield from self._tasks("label = ''")

    def some(self, ids: Sequence[int]) -> Iterator[MirroredTask]:
        """The tasks of these ids that there are."""
        for start in range(0, len(ids), _PAGE):
            yield from self._page(ids[start : start + _PAGE])

    def unpredicted(self, version: str, now: datetime) -> Iterator[MirroredTask]:
        """The unlabelled tasks that lack a prediction of `version`, by id; put-off ones in their time."""
        yield from self._tasks(_UNPREDICTED, *_unpredicted(version, now))

    def count_unpredicted(self, version: str, now: datetime) -> int:
        """How many `unpredicted` would give."""
        query = f"select count(*) from tasks where {_UNPREDICTED}"  # noqa: S608 our own constant
        with self._connection() as connection:
            return int(connection.execute(query, _unpredicted(version, now)).fetchone()[0])

    def put_off(self, id: int, version: str, retry_at: datetime) -> None:
        """Note that `version` cannot predict a task now, and when to try again."""
        with self._connection() as connection:
            connection.execute(
                "update tasks set failed = ?, retry_at = ? where id = ?", (version, retry_at.timestamp(), id)
            )

    def mark_predicted(self, version: str, ids: Iterable[int]) -> None:
        """Note that Label Studio holds predictions of `version` for these tasks."""
        with self._connection() as connection:
            connection.executemany(
                "update tasks set predicted = ? where id = ?", [(version, id) for id in ids]
            )

    def set_predicted(self, version: str, ids: Iterable[int]) -> None:
        """Note that these tasks and no others have predictions, all of `version`."""
        with self._connection() as connection:
            connection.execute("update tasks set predicted = ''")
            connection.executemany(
                "update tasks set predicted = ? where id = ?", [(version, id) for id in ids]
            )

    def decoded(self, label: str, config: str) -> tuple[str | None, tuple[str, ...]] | None:
        """File name (None when it could not be decoded) and problems of a label decoded before."""
        query = "select path, problems from masks where label = ? and config = ?"
        with self._connection() as connection:
            row = connection.execute(query, (label, config)).fetchone()
        return None if row is None else (row[0], tuple(json.loads(row[1])))

    def remember_decoded(self, label: str, config: str, path: str | None, problems: Sequence[str]) -> None:
        """Keep the outcome of decoding a label under one label config, so that it is decoded once."""
        with self._connection() as connection:
            connection.execute(
                "insert or replace into masks values (?, ?, ?, ?)",
                (label, config, path, json.dumps(list(problems))),
            )

    def settle_places(self, key: str, place: Callable[[dict[str, Any]], FramePlace | None]) -> None:
        """Find the place of every task that is new or changed; of all where `key` is not that of last time.

        Args:
            key: stands for `place`: another one may tell other places.
            place: of a task's data; None for an image of no sequence.
        """
        with self._connection() as connection:
            if connection.execute("select key from placed_by").fetchone() != (key,):
                connection.execute("delete from placed_by")
                connection.execute("insert into placed_by values (?)", (key,))
                connection.execute("insert or ignore into unplaced select id from tasks")
            elif connection.execute("select 1 from unplaced").fetchone() is None:
                return
            connection.execute("delete from places where task in (select task from unplaced)")
            waiting = "select id, data from tasks where id in (select task from unplaced)"
            found = ((id, place(json.loads(data))) for id, data in connection.execute(waiting))
            connection.executemany(
                "insert into places values (?, ?, ?, ?, ?)",
                [(id, p.folder, p.sequence, p.frame, p.name) for id, p in found if p is not None],
            )
            connection.execute("delete from unplaced")

    def around(self, place: FramePlace, task: int, count: int) -> tuple[list[TaskData], list[TaskData]]:
        """Up to `count` tasks before and after a place in its sequence, the nearest first: id and data.

        Sees what `settle_places` has settled; the task itself need not be in the mirror.
        """
        here = (place.sequence, place.folder, place.frame, place.name, task)
        with self._connection() as connection:
            before, after = (
                connection.execute(
                    "select id, data from places join tasks on id = task where sequence = ? and folder = ?"  # noqa: S608 our own words
                    f" and (frame, name, task) {sign} (?, ?, ?) and task <> ?"
                    f" order by frame {order}, name {order}, task {order} limit ?",
                    (*here, task, count),
                ).fetchall()
                for sign, order in (("<", "desc"), (">", "asc"))
            )
        return [(id, json.loads(data)) for id, data in before], [(id, json.loads(data)) for id, data in after]

    def _tasks(self, condition: str, *parameters: object) -> Iterator[MirroredTask]:
        with self._connection() as connection:
            ids = [
                row[0]
                for row in connection.execute(
                    f"select id from tasks where {condition} order by id",  # noqa: S608 our own constants
                    parameters,
                )
            ]
        for start in range(0, len(ids), _PAGE):
            yield from self._page(ids[start : start + _PAGE])

    def _page(self, ids: Sequence[int]) -> list[MirroredTask]:
        # Read in pages, so that no reader holds a transaction open while its consumer trains or fetches.
        marks = ",".join("?" * len(ids))
        query = f"{_COLUMNS} from tasks where id in ({marks}) order by id"
        with self._connection() as connection:
            rows = connection.execute(query, ids).fetchall()
        return [
            MirroredTask(row[0], row[1], json.loads(row[2]), _loads(row[3]), row[4], row[5]) for row in rows
        ]


_PAGE = 100
_COLUMNS = "select id, marker, data, annotation, label, predicted"
_UNPREDICTED = "label = '' and predicted <> ? and not (failed = ? and retry_at > ?)"


def _unpredicted(version: str, now: datetime) -> tuple[str, str, float]:
    return version, version, now.timestamp()


def _dumps(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"))


def _loads(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)
