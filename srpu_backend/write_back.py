"""What Label Studio is told about the champion: predictions, model version, sampling, a tab.

All of it may be done again: what Label Studio holds already is asked for first, so that a trainer killed
at any moment leaves no prediction twice. The old version goes on being served until the last prediction of
the new one is in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Protocol

from srpu_backend.annotator import UNTRAINED
from srpu_backend.batch import COLD_START, Order
from srpu_backend.mirror import TaskMirror
from srpu_backend.prediction_files import Prediction, PredictionFiles

log = logging.getLogger(__name__)

TAB_TITLE = "SRPU: teaches most first"
TAB_ORDERING = ["tasks:predictions_score"]
UNCERTAINTY_SAMPLING = "Uncertainty sampling"
_REQUEST_BYTES = 8 * 2**20
"""Of predictions in one request: Label Studio writes about 60 masks of 1024 × 768 px a second."""
_REQUEST_ITEMS = 500


class PredictionStore(Protocol):
    """The part of `Studio` that writing back needs."""

    def project(self, id: int) -> dict[str, Any]: ...
    def update_project(self, id: int, **fields: Any) -> dict[str, Any]: ...
    def predicted_tasks(self, id: int, version: str) -> set[int]: ...
    def import_predictions(self, id: int, predictions: list[dict[str, Any]]) -> int: ...
    def prediction_versions(self, id: int) -> dict[str, int]: ...
    def rescore_prediction(self, task: int, version: str, score: float) -> None: ...
    def delete_predictions(self, id: int, version: str) -> None: ...
    def views(self, id: int) -> list[dict[str, Any]]: ...
    def create_view(self, id: int, title: str, ordering: Sequence[str]) -> Any: ...


def write_back(
    project_id: int,
    studio: PredictionStore,
    mirror: TaskMirror,
    files: PredictionFiles,
    order: Order,
    ours: Collection[str],
    now: datetime,
    go_on: Callable[[], None] = lambda: None,
) -> int:
    """Make Label Studio hold one prediction of `files.version` for every unlabelled task that has one.

    Once no unlabelled task lacks one, Label Studio is told to serve by them, and the predictions of older
    versions go. When there are no older ones, it is told at once.

    Args:
        project_id: whose tasks.
        studio: where to write.
        mirror: knows the unlabelled tasks; is told what Label Studio holds.
        files: the champion's predictions.
        order: the scores of the coming batch. Where Label Studio holds others of them, they are changed in
            place, so that no task is without its prediction for a moment, nor has two.
        ours: the versions that are ours to remove.
        now: tells which tasks are put off, and so are not waited for.
        go_on: called before each request; may raise to give up.

    Returns:
        how many predictions were written.

    Raises:
        StudioError: Label Studio cannot be reached, refuses, or dropped predictions.
    """
    version = files.version
    present = _settled(project_id, studio, version)
    mirror.set_predicted(version, present)
    written = 0
    for batch in _batches(_lowest_score_first(mirror, files, order, present), files, order):
        go_on()
        written += studio.import_predictions(project_id, [asdict(p) for p in batch])
        mirror.mark_predicted(version, [p.task for p in batch])
    _rescore(studio, mirror, files, order, present, go_on)
    older = [v for v, n in studio.prediction_versions(project_id).items() if n and v in ours and v != version]
    if (present or written) and (not older or mirror.count_unpredicted(version, now) == 0):
        _serve(project_id, studio, version)
        for each in older:
            studio.delete_predictions(project_id, each)
    return written


def _settled(project_id: int, studio: PredictionStore, version: str) -> set[int]:
    """Tasks with exactly one prediction of the version: if any has two, all are taken back."""
    present = studio.predicted_tasks(project_id, version)
    count = studio.prediction_versions(project_id).get(version, 0)
    if count > len(present):
        log.warning("project %d: some tasks have two predictions of %s; writing anew", project_id, version)
        studio.delete_predictions(project_id, version)
        return set()
    return present


def _rescore(
    studio: PredictionStore,
    mirror: TaskMirror,
    files: PredictionFiles,
    order: Order,
    present: Collection[int],
    go_on: Callable[[], None],
) -> None:
    """Label Studio hears of the places that changed since it was told last."""
    for task in mirror.some(order.untold(present)):
        prediction = None if task.is_labelled else files.get(task.id, task.data)
        if prediction is not None:
            go_on()
            studio.rescore_prediction(task.id, files.version, order.score(prediction))
    order.remember_told()


def cold_start(
    project_id: int,
    studio: PredictionStore,
    mirror: TaskMirror,
    order: Order,
    go_on: Callable[[], None] = lambda: None,
) -> int:
    """Before there is a model: Label Studio serves the batch in its order, by predictions without regions.

    A project that holds predictions of others is left as it is: its order is theirs. Raises `StudioError`.

    Returns:
        how many predictions were written.
    """
    held = {version for version, count in studio.prediction_versions(project_id).items() if count}
    if held - {COLD_START, UNTRAINED} or not len(order):
        return 0
    present = _settled(project_id, studio, COLD_START)
    missing = [task for task in order.tasks() if task not in present]
    go_on()
    written = 0
    if missing:
        predictions = [asdict(order.cold_start(task)) for task in missing]
        written = studio.import_predictions(project_id, predictions)
    mirror.set_predicted(COLD_START, {*present, *missing})
    for task in mirror.some(order.untold(present)):
        if not task.is_labelled:
            go_on()
            studio.rescore_prediction(task.id, COLD_START, order.cold_start(task.id).score)
    order.remember_told()
    if written or present:
        _serve(project_id, studio, COLD_START)
    return written


def _lowest_score_first(
    mirror: TaskMirror, files: PredictionFiles, order: Order, present: Collection[int]
) -> list[tuple[int, dict[str, Any]]]:
    """Ids and data of the tasks to write, the one that teaches most first; results stay on disk."""
    scored = []
    for task in mirror.unlabelled():
        prediction = None if task.id in present else files.get(task.id, task.data)
        if prediction is not None:
            scored.append((order.score(prediction), task.id, task.data))
    return [(id, data) for _, id, data in sorted(scored, key=lambda entry: entry[:2])]


def _batches(
    tasks: Sequence[tuple[int, dict[str, Any]]], files: PredictionFiles, order: Order
) -> Iterator[list[Prediction]]:
    batch: list[Prediction] = []
    size = 0
    for id, data in tasks:
        prediction = files.get(id, data)
        if prediction is None:
            continue
        batch.append(replace(prediction, score=order.score(prediction)))
        size += len(json.dumps(prediction.result))
        if size >= _REQUEST_BYTES or len(batch) >= _REQUEST_ITEMS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _serve(project_id: int, studio: PredictionStore, version: str) -> None:
    """Let Label Studio serve by the new scores; what an annotator set since is left as it is."""
    if studio.project(project_id).get("model_version") == version:
        return
    studio.update_project(
        project_id, model_version=version, sampling=UNCERTAINTY_SAMPLING, show_collab_predictions=True
    )
    titles = {view.get("data", {}).get("title") for view in studio.views(project_id)}
    if TAB_TITLE not in titles:
        studio.create_view(project_id, TAB_TITLE, TAB_ORDERING)
