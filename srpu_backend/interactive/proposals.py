"""The region around a point: of all level sets that hold it, the one whose outline lies best on edges.

Pixels like those that were pointed at, at many tolerances, form nested regions, as in a component tree (MSER,
Matas et al. 2002, BMVC). Each is judged by the gradient along its outline: a leak shows as a stretch of
outline without an edge. This is done at every level of the image's pyramid in a window of fixed size, so
that a click costs the same on any image and finds specks and large grains alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from srpu_backend.interactive.image_state import ImageState
from srpu_backend.interactive.prompts import Box

Mask = NDArray[np.uint8]
Plane = NDArray[np.float32]

_WINDOW = 160
"""Side in px of what is looked at, at every level."""
_SIGMAS = (1.0, 2.0)
"""Blurs in px of the level: the smaller keeps specks, the larger bridges noise."""
_TOLERANCES = np.geomspace(0.02, 0.6, 18, dtype=np.float32)
"""Of the grey range, or of probability."""
_FEWEST_PIXELS = 6
_LARGEST_SHARE = 0.8
"""Of the window: what fills more is better seen a level higher."""
_LARGEST_SHARE_OF_IMAGE = 0.5
"""A region that is more than half of the image is what lies between the others."""
_SIZE_EXPONENT = 0.10
"""Prefers, of two outlines on equal edges, the larger region: noise has edges as well."""
_COMPACTNESS_EXPONENT = 0.15
_TIGHTNESS_EXPONENT = 3.0
_SQUARE = np.ones((3, 3), np.uint8)
_MARGIN = 8


@dataclass(frozen=True)
class Proposal:
    """A region in a window of a pyramid level, and how well its outline lies on edges."""

    mask: Mask
    top: int
    left: int
    factor: int
    """px of the image per px of the level."""
    score: float

    def painted(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """bool (H, W) in the image's pixels; outlines of coarse levels are smoothed."""
        full = np.zeros(shape, np.bool_)
        size = (self.mask.shape[1] * self.factor, self.mask.shape[0] * self.factor)
        large = cv2.resize(self.mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
        top, left = self.top * self.factor, self.left * self.factor
        part = full[top : top + size[1], left : left + size[0]]
        part[:] = large[: part.shape[0], : part.shape[1]]
        return full


@dataclass(frozen=True)
class _Window:
    """A part of a pyramid level around the seeds."""

    top: int
    left: int
    factor: int
    planes: tuple[Plane, ...]
    """What regions are level sets of: grey, and probability where there is one."""
    seeds: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    """Where a region may lie."""
    most: float
    """Pixels of the level that a region may have."""
    at_border: tuple[bool, bool, bool, bool]
    """Left, right, top, bottom: the window ends where the image does."""


def propose(
    state: ImageState,
    seeds: NDArray[np.intp],
    *,
    forbidden: NDArray[np.intp] | None = None,
    box: Box | None = None,
    class_index: int | None = None,
) -> Proposal | None:
    """The best region that holds all `seeds` (N, 2: x, y in px) and none of `forbidden`, inside of `box`.

    With `class_index`, level sets of that class's probability compete with those of the grey, where the model
    believes in the class at the seeds. None where no level set is a region.
    """
    best: Proposal | None = None
    for window in _windows(state, seeds, forbidden, box, class_index):
        for sigma in _SIGMAS:
            planes = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in window.planes]
            gradient = _joint_gradient(planes)
            for plane in planes:
                found = _best_level_set(window, plane, gradient, box)
                if found is not None and (best is None or found.score > best.score):
                    best = found
    return best


def _windows(
    state: ImageState,
    seeds: NDArray[np.intp],
    forbidden: NDArray[np.intp] | None,
    box: Box | None,
    class_index: int | None,
) -> Iterator[_Window]:
    low, high = seeds.min(axis=0), seeds.max(axis=0)
    for level, grey in enumerate(state.grey):
        factor = 2**level
        if (high - low).max() // factor > _WINDOW - 2 * _MARGIN and level + 1 < len(state.grey):
            continue
        limits = np.array(grey.shape[::-1])
        centre = np.minimum((low + high) // 2 // factor, limits - 1)
        left, top = np.maximum(centre - _WINDOW // 2, 0).tolist()
        right, bottom = np.minimum(centre + _WINDOW // 2 + 1, limits).tolist()
        part = np.s_[top:bottom, left:right]
        planes = [grey[part].astype(np.float32) / np.float32(65535)]
        if class_index is not None and class_index < len(state.probabilities):
            planes.append(state.probabilities[class_index][level][part].astype(np.float32) / np.float32(255))
        shape = planes[0].shape
        marked = _marked(seeds, factor, top, left, shape)
        inside = _inside(box, factor, top, left, shape)
        if forbidden is not None and len(forbidden):
            inside &= ~_marked(forbidden, factor, top, left, shape)
        border = (left == 0, right == limits[0], top == 0, bottom == limits[1])
        believed = [p for i, p in enumerate(planes) if i == 0 or p[marked].mean() >= 0.5]
        if marked.any():
            most = min(_LARGEST_SHARE * inside.size, _LARGEST_SHARE_OF_IMAGE * grey.size)
            yield _Window(top, left, factor, tuple(believed), marked, inside | marked, most, border)


def _marked(
    points: NDArray[np.intp], factor: int, top: int, left: int, shape: Sequence[int]
) -> NDArray[np.bool_]:
    marked = np.zeros(shape, np.bool_)
    x, y = (points // factor - (left, top)).T
    there = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    marked[y[there], x[there]] = True
    return marked


def _inside(box: Box | None, factor: int, top: int, left: int, shape: Sequence[int]) -> NDArray[np.bool_]:
    if box is None:
        return np.ones(shape, np.bool_)
    inside = np.zeros(shape, np.bool_)
    rows = slice(max(0, box.y0 // factor - top), max(0, -(-box.y1 // factor) - top))
    columns = slice(max(0, box.x0 // factor - left), max(0, -(-box.x1 // factor) - left))
    inside[rows, columns] = True
    return inside


def _best_level_set(window: _Window, plane: Plane, gradient: Plane, box: Box | None) -> Proposal | None:
    sampled = plane[window.seeds]
    darkest, brightest = np.percentile(sampled, (10, 90)).astype(np.float32)
    y, x = (int(v[0]) for v in np.nonzero(window.seeds))
    tried: set[int] = set()
    best: tuple[float, Mask] | None = None
    for tolerance in _TOLERANCES:
        bright, dark = plane >= darkest - tolerance, plane <= brightest + tolerance
        for like in (bright & dark, bright, dark):
            component, area, rectangle = _component((like & window.inside) | window.seeds, x, y)
            if area in tried or not _is_region(component, area, rectangle, window):
                continue
            tried.add(area)
            score = _score(component, area, rectangle, gradient, window.factor)
            if box is not None:
                score *= _tightness(rectangle, box, window) ** _TIGHTNESS_EXPONENT
            if best is None or score > best[0]:
                best = score, component
    if best is None:
        return None
    return Proposal(best[1], window.top, window.left, window.factor, best[0])


def _joint_gradient(planes: Sequence[Plane]) -> Plane:
    """Of grey and of probability alike: an outline is good where both have an edge, or one a strong one."""
    joint: Plane = np.stack([_gradient(plane) for plane in planes]).sum(axis=0)
    return joint


def _gradient(plane: Plane) -> Plane:
    """Magnitude per px."""
    dx = cv2.Sobel(plane, cv2.CV_32F, 1, 0, scale=0.125)
    dy = cv2.Sobel(plane, cv2.CV_32F, 0, 1, scale=0.125)
    magnitude: Plane = cv2.magnitude(dx, dy)
    return magnitude


def _component(like: NDArray[np.bool_], x: int, y: int) -> tuple[Mask, int, tuple[int, int, int, int]]:
    """The 4-connected part of `like` that holds (x, y), its area and its bounding box (x, y, w, h)."""
    filled = np.zeros((like.shape[0] + 2, like.shape[1] + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | 1 << 8
    area, _, _, rectangle = cv2.floodFill(like.astype(np.uint8), filled, (x, y), 1, 0, 0, flags)
    return filled[1:-1, 1:-1], int(area), rectangle


def _is_region(component: Mask, area: int, rectangle: tuple[int, int, int, int], window: _Window) -> bool:
    """Not a speck, not the whole window, within it, and with all seeds."""
    if not _FEWEST_PIXELS <= area <= window.most:
        return False
    x, y, width, height = rectangle
    height_all, width_all = component.shape
    cut = (x == 0, x + width == width_all, y == 0, y + height == height_all)
    if any(touches and not border for touches, border in zip(cut, window.at_border, strict=True)):
        return False
    return bool(component[window.seeds].all())


def _score(
    component: Mask, area: int, rectangle: tuple[int, int, int, int], gradient: Plane, factor: int
) -> float:
    """Edge along the outline, its weak stretches counting double; larger and rounder regions first.

    Along the image's border there is no edge: what leaks that far is worth less, what is cut by it as well.
    """
    x, y, width, height = rectangle
    part = np.s_[max(0, y - 1) : y + height + 1, max(0, x - 1) : x + width + 1]
    region = component[part]
    outline = cv2.dilate(region, _SQUARE) != cv2.erode(region, _SQUARE)
    edges = gradient[part][outline]
    length = edges.size + _at_border(component)
    if not length:
        return 0.0
    mean = float(edges.sum()) / length
    weak = float(np.minimum(edges, mean).sum()) / length
    compactness = min(1.0, 16 * np.pi * area / length**2)  # the outline is two pixels wide
    size = (area * factor**2) ** _SIZE_EXPONENT
    return float((mean + weak) / 2 * size * compactness**_COMPACTNESS_EXPONENT)


def _at_border(component: Mask) -> int:
    """Pixels of a region at the window's border, which is the image's wherever a region reaches it."""
    return sum(
        int(np.count_nonzero(line)) for line in (component[0], component[-1], component.T[0], component.T[-1])
    )


def _tightness(rectangle: tuple[int, int, int, int], box: Box, window: _Window) -> float:
    """IoU of a region's bounding box with the box that was drawn around it."""
    f = window.factor
    x0, y0 = (window.left + rectangle[0]) * f, (window.top + rectangle[1]) * f
    x1, y1 = x0 + rectangle[2] * f, y0 + rectangle[3] * f
    width = max(0, min(x1, box.x1) - max(x0, box.x0))
    height = max(0, min(y1, box.y1) - max(y0, box.y0))
    both = width * height
    return both / ((x1 - x0) * (y1 - y0) + (box.x1 - box.x0) * (box.y1 - box.y0) - both)
