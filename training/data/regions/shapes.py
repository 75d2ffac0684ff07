"""Polygons, rectangles and ellipses as pixels.

Coordinates come in percent of the image's width and height. A pixel belongs to a shape when its centre lies
in it; OpenCV's fills also take every pixel the outline touches, and so make shapes half a pixel too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.regions.errors import BadRegion

MAX_POINTS = 100_000
_FARTHEST_PERCENT = 10_000.0
"""Far outside of any image, and near enough for all arithmetic to stay exact."""
_CROSSINGS_AT_ONCE = 2**20


def polygon(value: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) inside of `points`, whether the polygon was closed or not.

    A polygon that runs over itself is filled by the non-zero winding rule, as browsers fill it: a ring that
    runs the other way, reached over a bridge, is a hole. One or two points cover nothing. Raises `BadRegion`.
    """
    try:
        points = np.asarray(value.get("points"), np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadRegion("its points are no list of [x, y] in percent.") from None
    if points.ndim != 2 or points.shape[1] != 2 or not (abs(points) <= _FARTHEST_PERCENT).all():
        raise BadRegion("its points are no list of [x, y] in percent.")
    if len(points) > MAX_POINTS:
        raise BadRegion(f"it has {len(points)} points, more than the {MAX_POINTS} allowed.")
    return fill(points * _pixels_per_percent(shape), shape)


def rectangle(value: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) of a rectangle, turned clockwise by `rotation` degrees about its corner (x, y).

    Raises `BadRegion`.
    """
    x, y, width, height = _numbers(value, "x", "y", "width", "height")
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) * _pixels_per_percent(shape)
    corner = np.array([x, y]) * _pixels_per_percent(shape)
    return fill(corner + corners @ _clockwise(value), shape)


def ellipse(value: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) of an ellipse, turned clockwise by `rotation` degrees about its centre (x, y).

    Raises `BadRegion`.
    """
    x, y, radius_x, radius_y = _numbers(value, "x", "y", "radiusX", "radiusY")
    scale = _pixels_per_percent(shape)
    center = np.array([x, y]) * scale
    radii = np.abs(np.array([radius_x, radius_y]) * scale)
    inside = np.zeros(shape, np.bool_)
    if not radii.all():
        return inside
    reach = float(radii.max())
    rows, columns = (
        slice(*np.clip([np.floor(c - reach), np.ceil(c + reach)], 0, limit).astype(int))
        for c, limit in zip(center[::-1], shape, strict=True)
    )
    dy = np.arange(rows.start, rows.stop)[:, np.newaxis] + 0.5 - center[1]
    dx = np.arange(columns.start, columns.stop) + 0.5 - center[0]
    turn = _clockwise(value)
    along_x = (dx * turn[0, 0] + dy * turn[0, 1]) / radii[0]
    along_y = (dx * turn[1, 0] + dy * turn[1, 1]) / radii[1]
    inside[rows, columns] = along_x**2 + along_y**2 <= 1
    return inside


def fill(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H, W) whose centre a ring of points (N, 2), x and y in px, winds around.

    Pixel (row, column) covers [column, column + 1) × [row, row + 1). Each edge adds its direction, up or
    down, right of where it crosses a row's middle; the running sum along a row is the winding number.
    """
    inside = np.zeros(shape, np.bool_)
    low = np.clip(np.floor(points.min(axis=0)), 0, shape[::-1]).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)), 0, shape[::-1]).astype(int)
    columns, rows = (high - low).tolist()
    if not columns or not rows:
        return inside
    winding = np.zeros((rows, columns + 1), np.int32)
    for row, x, direction in _crossings(points - low, rows):
        first_right = np.clip(np.ceil(x - 0.5), 0, columns).astype(int)
        np.add.at(winding, (row, first_right), direction)
    window = np.cumsum(winding[:, :-1], axis=1) != 0
    inside[low[1] : high[1], low[0] : high[0]] = window
    return inside


def _crossings(
    points: NDArray[np.float64], rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """Where the ring's edges cross the middles of rows: row, x, and +1 downwards or -1 upwards."""
    ends = np.roll(points, -1, axis=0)
    spans = np.sort(np.stack([points[:, 1], ends[:, 1]]), axis=0)
    first, last = np.clip(np.ceil(spans - 0.5), 0, rows).astype(int)
    counts = last - first
    edges_at_once = max(1, _CROSSINGS_AT_ONCE // rows)
    for start in range(0, len(points), edges_at_once):
        part = slice(start, start + edges_at_once)
        edge = np.repeat(np.arange(len(points))[part], counts[part])
        before = np.cumsum(counts[part]) - counts[part]
        row = first[edge] + np.arange(edge.size) - np.repeat(before, counts[part])
        (x0, y0), (x1, y1) = points[edge].T, ends[edge].T
        yield row, x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0), np.where(y1 > y0, 1, -1)


def _pixels_per_percent(shape: tuple[int, int]) -> NDArray[np.float64]:
    """(x, y)"""
    return np.array([shape[1], shape[0]]) / 100


def _clockwise(value: Mapping[str, Any]) -> NDArray[np.float64]:
    """Rows are where the shape's own x and y axes point, in px with y downwards."""
    degrees = _number(value.get("rotation") or 0, "rotation")
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([(cos, sin), (-sin, cos)])


def _numbers(value: Mapping[str, Any], *names: str) -> list[float]:
    return [_number(value.get(name), name) for name in names]


def _number(number: object, name: str) -> float:
    if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= _FARTHEST_PERCENT:
        return float(number)
    raise BadRegion(f"its {name} is {str(number)[:40]!r}, which is no number in percent or degrees.")
