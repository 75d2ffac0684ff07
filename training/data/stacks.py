"""Stacks of neighbouring frames, as a network of several input channels looks at them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from sqlite3 import Row
from typing import TypeVar

from training.data.catalog import Catalog

_ORDERED = (
    "SELECT * FROM images WHERE usable"
    " ORDER BY folder, sequence IS NULL, sequence, frame IS NULL, frame, name"
)

T = TypeVar("T")


def filled_up(middle: T, before: Sequence[T], after: Sequence[T], reach: int) -> tuple[T, ...]:
    """A stack of 2 · `reach` + 1 frames from those there are, each side the nearest first.

    Where a side has too few, the last one it has, or the middle, is repeated.
    """
    sides = []
    for side in (before, after):
        there = list(side[:reach])
        sides.append(there + [there[-1] if there else middle] * (reach - len(there)))
    return (*reversed(sides[0]), middle, *sides[1])


def stacks(catalog: Catalog, depth: int) -> Iterator[tuple[Row, tuple[str, ...]]]:
    """Every usable image with the paths of its `depth` neighbouring frames, itself in the middle.

    Neighbours are the frames before and after it in the same folder and sequence, whatever their distance in
    number, for recordings are often thinned out. At the ends, and where a neighbour has another size or bit
    depth, the nearest frame that fits is repeated. Empty for depth 1, and without a sequence or frame.
    """
    reach = depth // 2
    window: deque[Row | None] = deque([None] * (reach + 1), maxlen=depth)
    for row in _then_none(catalog.rows(_ORDERED), reach):
        window.append(row)
        middle = window[-1 - reach] if len(window) > reach else None
        if middle is not None:
            yield middle, _frames(list(window), len(window) - 1 - reach, reach)


def _then_none(rows: Iterator[Row], count: int) -> Iterator[Row | None]:
    yield from rows
    for _ in range(count):
        yield None


def _frames(window: list[Row | None], place: int, reach: int) -> tuple[str, ...]:
    middle = window[place]
    if middle is None or reach == 0 or middle["sequence"] is None or middle["frame"] is None:
        return ()
    sides: list[list[str]] = []
    for step in (-1, 1):
        sides.append([])
        for at in range(place + step, place + step * (reach + 1), step):
            neighbour = window[at] if 0 <= at < len(window) else None
            if neighbour is None or not _alike(middle, neighbour):
                break
            sides[-1].append(neighbour["path"])
    return filled_up(middle["path"], sides[0], sides[1], reach)


def _alike(one: Row, other: Row) -> bool:
    return all(one[fact] == other[fact] for fact in ("folder", "sequence", "width", "height", "bits")) and (
        other["frame"] is not None
    )
