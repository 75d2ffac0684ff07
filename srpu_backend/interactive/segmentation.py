"""Prompts in, one region out: numerics on arrays alone.

The first click, the stroke or the box proposes a region (`proposals`); every further click corrects what the
ones before it gave (`random_walker`). Answers are remembered by the prompts that led to them, so that a
further click costs one correction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from srpu_backend.interactive.image_state import ImageState
from srpu_backend.interactive.instances import split_at
from srpu_backend.interactive.prompts import Box, Click, Prompts
from srpu_backend.interactive.proposals import Proposal, propose
from srpu_backend.interactive.random_walker import correct, snapped

Mask = NDArray[np.bool_]

LARGEST_HOLE = 0.15
"""Of a region's area: smaller holes are noise and are filled."""
_CLICK_RADIUS = 2
"""px around a click that follow it whatever the image says."""
_UNGUIDED_RADIUS = 8
_MOST_SEEDS = 256
_BOX_SLACK = 2


@dataclass(frozen=True)
class Region:
    """What the prompts mean."""

    mask: NDArray[np.uint8]
    """(H, W), 1 = inside."""
    score: float
    """Share of the outline that lies on an edge, in [0, 1]."""


def segment(
    image: NDArray[Any] | ImageState,
    prompts: Prompts,
    probabilities: NDArray[np.floating[Any]] | None = None,
    *,
    class_index: int | None = None,
    instances: bool = False,
) -> Region:
    """The region that `prompts` point at.

    Args:
        image: grey (H, W) of any depth, or the state of one from before, which knows its probabilities.
        prompts: in px of the image; what lies outside of it is left out.
        probabilities: (C, H, W) in [0, 1], where there is a model.
        class_index: the class that was pointed with, an index into `probabilities`.
        instances: areas that touch are told apart by their shape, even where the grey shows no edge.

    Positive clicks are inside, negative ones outside; with a box, the region stays within 2 px of it. An
    empty region where nothing points at anything. Raises `ValueError` for arrays that do not fit each other.
    """
    state = image if isinstance(image, ImageState) else ImageState.of(image, probabilities)
    prompts = _within(prompts, state.shape)
    if not prompts.points_at_something:
        return Region(np.zeros(state.shape, np.uint8), 0.0)
    mask = _region(state, prompts, class_index, instances)
    return Region(mask.astype(np.uint8), _edge_share(state, mask))


def _region(state: ImageState, prompts: Prompts, class_index: int | None, instances: bool) -> Mask:
    key = (prompts, _digest(prompts.stroke), _digest(prompts.erased), class_index, instances)

    def answer() -> Mask:
        first, later = _first(prompts)
        if later is None:
            found = _proposed(state, first, class_index)
            if instances:
                found = _split(found, first)
        else:
            before = _region(state, first, class_index, instances)
            found = _corrected(state, before, prompts, class_index)
        return _tidied(found, prompts)

    return state.recall(key, answer)


def _first(prompts: Prompts) -> tuple[Prompts, Click | None]:
    """The prompts before the last click, and that click; None where the prompts propose a region."""
    if not prompts.clicks:
        return prompts, None
    before = replace(prompts, clicks=prompts.clicks[:-1])
    return (before, prompts.clicks[-1]) if before.points_at_something else (prompts, None)


def _proposed(state: ImageState, prompts: Prompts, class_index: int | None) -> Mask:
    outside = [(c.x, c.y) for c in prompts.clicks if not c.positive]
    if prompts.erased is not None:
        outside += _sampled(prompts.erased)
    forbidden = np.array(outside, np.intp).reshape(-1, 2)
    best: Proposal | None = None
    for seeds in _seed_sets(prompts):
        found = propose(state, seeds, forbidden=forbidden, box=prompts.box, class_index=class_index)
        if found is not None and (best is None or found.score > best.score):
            best = found
    if best is None:
        return _unguided(state.shape, prompts)
    return snapped(state, best.painted(state.shape), prompts.clicks, prompts.box, class_index)


def _seed_sets(prompts: Prompts) -> list[NDArray[np.intp]]:
    """What must be in the region together; for a bare box, nine places in it to try in turn."""
    points = [(c.x, c.y) for c in prompts.clicks if c.positive]
    if prompts.stroke is not None:
        points += _sampled(prompts.stroke)
    if points:
        return [np.array(points, np.intp)]
    box = prompts.box
    if box is None:
        return []
    at = (0.3, 0.5, 0.7)
    xs = {int(box.x0 + t * (box.x1 - box.x0)) for t in at}
    ys = {int(box.y0 + t * (box.y1 - box.y0)) for t in at}
    return [np.array([(x, y)], np.intp) for x in sorted(xs) for y in sorted(ys)]


def _sampled(mask: Mask) -> list[tuple[int, int]]:
    ys, xs = np.nonzero(mask)
    step = -(-xs.size // _MOST_SEEDS) or 1
    return list(zip(xs[::step].tolist(), ys[::step].tolist(), strict=True))


def _unguided(shape: tuple[int, int], prompts: Prompts) -> Mask:
    """Where the image shows nothing: the box's ellipse, or a disc around what was pointed at."""
    drawn = np.zeros(shape, np.uint8)
    if prompts.box is not None:
        box = prompts.box
        centre = ((box.x0 + box.x1 - 1) // 2, (box.y0 + box.y1 - 1) // 2)
        cv2.ellipse(drawn, centre, ((box.x1 - box.x0) // 2, (box.y1 - box.y0) // 2), 0, 0, 360, 1, -1)
    for click in prompts.clicks:
        if click.positive:
            cv2.circle(drawn, (click.x, click.y), _UNGUIDED_RADIUS, 1, -1)
    return drawn > 0 if prompts.stroke is None else (drawn > 0) | prompts.stroke


def _split(found: Mask, prompts: Prompts) -> Mask:
    clicks = [c for c in prompts.clicks if c.positive]
    return split_at(found, clicks) if clicks and prompts.stroke is None else found


def _corrected(state: ImageState, before: Mask, prompts: Prompts, class_index: int | None) -> Mask:
    last = prompts.clicks[-1]
    if bool(before[last.y, last.x]) == last.positive:
        return before
    wrong = [False] * (len(prompts.clicks) - 1) + [True]
    return correct(state, before, prompts.clicks, wrong, prompts.box, class_index)


def _tidied(mask: Mask, prompts: Prompts) -> Mask:
    """Without islands nobody clicked and holes nobody made; clicks, strokes and box obeyed."""
    tidy = _obeying(mask, prompts)
    tidy = _without_islands(tidy, prompts)
    tidy = _without_small_holes(tidy, prompts)
    return _obeying(tidy, prompts)


def _obeying(mask: Mask, prompts: Prompts) -> Mask:
    drawn = mask.astype(np.uint8)
    if prompts.box is not None:
        drawn &= _box_mask(prompts.box, mask.shape, _BOX_SLACK)
    if prompts.stroke is not None:
        drawn[prompts.stroke] = 1
    if prompts.erased is not None:
        drawn[prompts.erased] = 0
    for radius in (_CLICK_RADIUS, 0):  # where two discs overlap, at least the clicks' own pixels hold
        for click in prompts.clicks:
            cv2.circle(drawn, (click.x, click.y), radius, int(click.positive), -1)
    return drawn > 0


def _without_islands(mask: Mask, prompts: Prompts) -> Mask:
    """The connected parts that something points at; of a bare box's, the largest."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    wanted = {int(labels[c.y, c.x]) for c in prompts.clicks if c.positive}
    if prompts.stroke is not None:
        wanted |= set(np.unique(labels[prompts.stroke]).tolist())
    wanted -= {0}
    if not wanted and len(stats) > 1:
        wanted = {1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())}
    return np.isin(labels, list(wanted))


def _without_small_holes(mask: Mask, prompts: Prompts) -> Mask:
    """Holes that a negative click lies in stay open."""
    outside = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    _, labels, stats, _ = outside
    x, y, width, height, area = stats.T
    enclosed = (x > 0) & (y > 0) & (x + width < mask.shape[1]) & (y + height < mask.shape[0])
    holes = enclosed & (area < LARGEST_HOLE * mask.sum())
    holes[0] = False  # the mask itself
    holes[[int(labels[c.y, c.x]) for c in prompts.clicks if not c.positive]] = False
    filled: Mask = mask | holes[labels]
    return filled


def _edge_share(state: ImageState, mask: Mask) -> float:
    """Share of the outline with more gradient than three quarters of the pixels around it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0
    part = np.s_[max(0, rows[0] - 8) : rows[-1] + 9, max(0, columns[0] - 8) : columns[-1] + 9]
    grey = cv2.GaussianBlur(state.grey[0][part].astype(np.float32), (0, 0), 1.5)
    steep = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    region = mask[part].astype(np.uint8)
    outline = cv2.morphologyEx(region, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not outline.any():
        return 0.0
    return float((steep[outline] > np.percentile(steep[::2, ::2], 75)).mean())


def _within(prompts: Prompts, shape: tuple[int, int]) -> Prompts:
    """Without what lies outside of the image."""
    height, width = shape
    clicks = tuple(c for c in prompts.clicks if 0 <= c.x < width and 0 <= c.y < height)
    box = prompts.box
    if box is not None:
        cut = Box(max(0, box.x0), max(0, box.y0), min(width, box.x1), min(height, box.y1))
        box = cut if cut.x0 < cut.x1 and cut.y0 < cut.y1 else None
    for drawn in (prompts.stroke, prompts.erased):
        if drawn is not None and drawn.shape != shape:
            raise ValueError(f"a stroke {drawn.shape} does not fit an image {shape}")
    return replace(prompts, clicks=clicks, box=box)


def _box_mask(box: Box, shape: tuple[int, ...], slack: int) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask[max(0, box.y0 - slack) : box.y1 + slack, max(0, box.x0 - slack) : box.x1 + slack] = 1
    return mask


def _digest(mask: Mask | None) -> int:
    return 0 if mask is None else hash(np.packbits(mask).tobytes())
