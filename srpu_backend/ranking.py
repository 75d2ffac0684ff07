"""Which tasks to label next: the project's strategy over what is known of their images and of its champion.

Nothing is predicted for it: what the champion was unsure of was noted when it looked at the pool, and images
are embedded once. The batch is chosen anew with each champion, and filled up when half of it is labelled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from srpu_backend.batch import (
    COLD_START,
    LabelBatch,
    Place,
    pool_fingerprint,
    read_batch,
    waiting,
    was_skipped,
    write_batch,
)
from srpu_backend.label_config import BadLabelConfig
from srpu_backend.pool_images import ImageFiles, PoolImages, TaskImage
from srpu_backend.prediction_files import PredictionFiles
from srpu_backend.projects import Project
from srpu_backend.settings import Settings
from srpu_backend.training_settings import LABEL_BATCH, STRATEGY
from training.active_learning.choice import choose
from training.active_learning.embedders import Texture
from training.active_learning.embeddings import standardised
from training.active_learning.explanation import Explanations
from training.active_learning.pool import Answers, Mask, Pool
from training.active_learning.pool_answers import NAMES
from training.active_learning.strategies import Strategy, UnknownStrategy, find_strategy
from training.data.near_duplicates import shown_among

DEFAULT = "hybrid"


@dataclass(frozen=True)
class Asked:
    """How a project wants its tasks ranked."""

    strategy: Strategy
    size: int
    """Tasks of a batch."""
    problem: str = ""
    """What could not be followed, in a sentence."""


def asked(project: Project, settings: Settings) -> Asked:
    """SRPU_STRATEGY and SRPU_LABEL_BATCH, changed by the label config's `model_…`, by the parameters.

    What cannot be used is said, and the default takes its place. Raises `BadLabelConfig`.
    """
    config = project.label_config.parameters
    name = project.parameters.get(STRATEGY, config.get(f"model_{STRATEGY}", settings.strategy))
    size = project.parameters.get(LABEL_BATCH, config.get(f"model_{LABEL_BATCH}", settings.label_batch))
    problems = []
    try:
        strategy = find_strategy(str(name))
    except UnknownStrategy as error:
        problems.append(f"{error} Until then tasks are ranked by {DEFAULT}.")
        strategy = find_strategy(DEFAULT)
    if strategy.needs_members:
        problems.append(
            f"{strategy.name} asks the model about mirrored images too and is for folders (`python -m "
            f"training rank`). Until another is chosen tasks are ranked by {DEFAULT}."
        )
        strategy = find_strategy(DEFAULT)
    if not (str(size).isdecimal() and 1 <= int(size) <= 10_000):
        problems.append(f"{LABEL_BATCH} is {size!r} and must be a number from 1 to 10000; 20 is taken.")
        size = 20
    return Asked(strategy, int(size), " ".join(problems))


def ranking_due(project: Project, settings: Settings) -> bool:
    """True when the batch was chosen for other circumstances, or runs low and there is more to choose."""
    try:
        wanted = asked(project, settings)
    except BadLabelConfig:  # said where it is needed
        return False
    batch = read_batch(project)
    if batch is None or not _is_current(batch, project, wanted):
        return project.mirror.counts().tasks > 0
    runs_low = 2 * len(waiting(batch, project.mirror)) <= wanted.size
    return runs_low and batch.pool != pool_fingerprint(project.mirror)


def rank_pool(
    project: Project,
    images: ImageFiles,
    settings: Settings,
    clock: Callable[[], datetime],
    go_on: Callable[[], None],
) -> None:
    """Look at the images that are new; choose the next batch, or fill it up, when that is due.

    Args:
        project: its mirror tells the tasks and the labels.
        images: where originals come from.
        settings: of the whole backend.
        clock: what time it is.
        go_on: called before each image; may raise to give up.

    Raises:
        BadLabelConfig, UnknownVersion, BrokenModel: what the project is cannot be read.
    """
    pool_images = PoolImages(project, Texture())
    pool_images.look_at_new(images, clock, go_on)
    if not ranking_due(project, settings):
        return
    wanted = asked(project, settings)
    if wanted.problem:
        project.note_problem("rank", wanted.problem)
    known = pool_fingerprint(project.mirror)  # before looking: what comes meanwhile is chosen from next time
    batch, kept = _to_go_on_with(project, wanted)
    chosen = _choose(project, pool_images, wanted, batch, kept)
    write_batch(project, chosen.model_copy(update={"pool": known}))


def _is_current(batch: LabelBatch, project: Project, wanted: Asked) -> bool:
    version = project.registry.champion() or COLD_START
    return (batch.version, batch.strategy, batch.size) == (version, wanted.strategy.name, wanted.size)


def _to_go_on_with(project: Project, wanted: Asked) -> tuple[LabelBatch, tuple[Place, ...]]:
    """The batch to fill up and what is left of it; an empty one where it is to be chosen anew."""
    batch = read_batch(project)
    version = project.registry.champion() or COLD_START
    empty = LabelBatch(version=version, strategy=wanted.strategy.name, size=wanted.size, pool="")
    if batch is None or not _is_current(batch, project, wanted):
        return empty, ()
    left = waiting(batch, project.mirror)
    if len(left) == len(batch.places) < wanted.size:
        return empty, ()  # nobody has begun with it, and now there is more to choose from
    return batch, left


def _choose(
    project: Project,
    pool_images: PoolImages,
    wanted: Asked,
    batch: LabelBatch,
    kept: tuple[Place, ...],
) -> LabelBatch:
    """`kept` keep their places; the rest is chosen behind them."""
    pool = _pool(project, pool_images, batch.version)
    limit = _per_sequence(pool, wanted.size)
    row_of = {int(key): row for row, key in enumerate(pool.keys)}
    rows = [row_of[place.task] for place in kept if place.task in row_of]
    keep = _may_join(pool, rows, limit)
    strategy = wanted.strategy
    if pool.answers is None and strategy.needs_answers:
        strategy = find_strategy(DEFAULT)  # before there is a model
    rest = _part(replace(pool, labeled=pool.labeled | _mask(len(pool), rows)), keep)
    found = choose(rest, strategy, wanted.size - len(kept), seed=batch.next_place, per_group=limit)
    explanations = Explanations(rest, found)
    new = tuple(
        Place(
            task=int(rest.keys[pick.row]),
            place=batch.next_place + offset,
            arm=pick.arm,
            why=explanations.of(pick),
            cluster=int(found.clusters[pick.row]),
        )
        for offset, pick in enumerate(found.picks)
    )
    return batch.model_copy(
        update={"places": kept + new, "next_place": batch.next_place + len(new), "notes": found.notes}
    )


def _pool(project: Project, pool_images: PoolImages, version: str) -> Pool:
    """All that is known of the tasks that are labelled or may be; keys are their ids, with leading zeros."""
    known = pool_images.known()
    markers, labelled = project.mirror.markers(), project.mirror.labels()
    rows = pool_images.store.rows([image.digest for image in known.values()])
    tasks = sorted(
        id
        for id, image in known.items()
        if image.digest in rows and id in markers and (id in labelled or not was_skipped(markers[id]))
    )
    places = np.array([rows[known[id].digest] for id in tasks], np.int64)
    numbers: dict[str, int] = {}
    pool = Pool(
        keys=[f"{id:020d}" for id in tasks],
        labeled=np.array([id in labelled for id in tasks], bool),
        groups=np.array([numbers.setdefault(known[id].sequence, len(numbers)) for id in tasks], np.int64),
        embeddings=standardised(pool_images.store.vectors(), places),
        descriptions=pool_images.store.descriptions()[places],
    )
    if version == COLD_START:
        return pool
    return replace(pool, answers=_answers(project, version, [known[id] for id in tasks], pool.labeled))


def _answers(project: Project, version: str, images: list[TaskImage], labeled: Mask) -> Answers:
    """What the champion said when it looked at the tasks."""
    card = project.registry.card(version)
    classes = tuple(info.name for info in card.classes)
    numbers = np.full((len(images), len(NAMES) + 2 * len(classes)), np.nan, np.float32)
    said = PredictionFiles(project.root, version).doubts([image.content for image in images])
    for row, image in enumerate(images):
        found = said.get(image.content)
        if found is not None and not labeled[row] and len(found) == numbers.shape[1]:
            numbers[row] = found
    first = len(NAMES) + len(classes)
    return Answers(
        classes=classes,
        background=next((i for i, info in enumerate(card.classes) if info.implicit), -1),
        uncertainty={name: numbers[:, place] for place, name in enumerate(NAMES)},
        by_class=numbers[:, len(NAMES) : first],
        areas=numbers[:, first:],
    )


def _per_sequence(pool: Pool, size: int) -> int:
    """One; where there are fewer sequences than places, as few as fill the batch."""
    sequences = len(np.unique(pool.groups[pool.unlabeled]))
    return max(1, math.ceil(size / max(1, sequences)))


def _may_join(pool: Pool, kept: Collection[int], limit: int) -> Mask:
    """Rows that go into the choice: not those whose sequence, or what they show, is in the batch already."""
    if not kept:
        return np.ones(len(pool), bool)
    rows = np.array(sorted(kept), np.int64)
    sizes = Counter(pool.groups[rows].tolist())
    full = [group for group, size in sizes.items() if size >= limit]
    out = np.isin(pool.groups, full)
    if pool.descriptions is not None:
        out |= shown_among(pool.descriptions, pool.descriptions[rows])
    out[rows] = False
    may_join: Mask = pool.labeled | ~out
    return may_join


def _part(pool: Pool, keep: Mask) -> Pool:
    if keep.all():
        return pool
    answers = pool.answers
    if answers is not None:
        answers = replace(
            answers,
            uncertainty={name: scores[keep] for name, scores in answers.uncertainty.items()},
            by_class=answers.by_class[keep],
            areas=answers.areas[keep],
        )
    return Pool(
        keys=[key for key, kept in zip(pool.keys, keep, strict=True) if kept],
        labeled=pool.labeled[keep],
        groups=pool.groups[keep],
        embeddings=None if pool.embeddings is None else pool.embeddings[keep],
        answers=answers,
        descriptions=None if pool.descriptions is None else pool.descriptions[keep],
    )


def _mask(count: int, rows: Collection[int]) -> Mask:
    mask = np.zeros(count, bool)
    mask[list(rows)] = True
    return mask


def next_tasks(project: Project, settings: Settings) -> Mapping[str, Any]:
    """What `/status` tells of the ranking."""
    wanted = asked(project, settings)
    batch = read_batch(project)
    told: dict[str, Any] = {"strategy": wanted.strategy.name}
    if wanted.problem:
        told["strategy_problem"] = wanted.problem
    if batch is None:
        return {**told, "next": []}
    left = waiting(batch, project.mirror)
    upcoming = [
        {"task": place.task, "rank": rank, "arm": place.arm, "why": place.why}
        for rank, place in enumerate(left, start=1)
    ]
    notes = {"next_notes": list(batch.notes)} if batch.notes else {}
    return {**told, "next": upcoming, **notes}
