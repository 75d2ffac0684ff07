"""A request's tasks, answered by one version: from what is kept, else computed while there is time."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_zoo.errors import SRPUError
from srpu_backend.annotator import Annotator, Champion, Images, LoadedModel
from srpu_backend.computed_once import ComputedOnce
from srpu_backend.due import config_fingerprint
from srpu_backend.prediction_files import Prediction, PredictionFiles, fingerprint
from srpu_backend.projects import Project

log = logging.getLogger(__name__)

Task = Mapping[str, Any]
Element = dict[str, Any]
"""Of `results`: a prediction, or `error`."""


@dataclass(frozen=True)
class Answered:
    """What a request is answered."""

    version: str
    """Of every prediction in it."""
    elements: list[Element]
    deferred: int = 0
    """Tasks there was no time for."""


class Answers:
    """Answers the tasks of requests; safe among threads.

    A request never waits for a new champion to load: until that is ready the one before answers all of it.
    """

    def __init__(self, images: Images, seconds: float, clock: Callable[[], float]) -> None:
        self._images = images
        self._seconds = seconds
        self._clock = clock
        self._once: ComputedOnce[Prediction] = ComputedOnce()

    def answer(self, project: Project, champion: Champion, version: str, tasks: Sequence[Task]) -> Answered:
        """One element for each task, in order; `version` is the one the project's pointer names.

        What is kept costs no time to speak of. Of the others the first is always computed, however long
        it takes; once `seconds` have passed, those that remain are deferred.
        """
        deadline = self._clock() + self._seconds
        champion.prepare()
        files = _files(project, version)
        kept = [_kept(files, task) for task in tasks]
        if None not in kept:
            return Answered(version, [element for element in kept if element is not None])
        try:
            model = champion.current()
        except SRPUError as error:
            return Answered(version, [element or {"error": str(error)} for element in kept])
        if model.version != version:
            files = _files(project, model.version)
            kept = [_kept(files, task) for task in tasks]
        annotator = Annotator(project, self._images, champion)
        elements: list[Element] = []
        deferred = computed = 0
        for task, known in zip(tasks, kept, strict=True):
            if known is None and computed and self._clock() > deadline:
                deferred += 1
                known = _deferred(self._seconds)
            elif known is None:
                computed += 1
                known = self._computed(project, annotator, model, files, task)
            elements.append(known)
        return Answered(model.version, elements, deferred)

    def _computed(
        self, project: Project, annotator: Annotator, model: LoadedModel, files: PredictionFiles, task: Task
    ) -> Element:
        """The answer or the error of one task: it must not take the others of its request with it."""

        def compute() -> Prediction:
            return _stored(files, task) or _predicted(annotator, model, files, task)

        try:
            return _element(self._once.get(_key(project, model, task), compute))
        except SRPUError as error:
            return {"error": str(error)}
        except Exception:
            reference = uuid.uuid4().hex[:8]
            log.exception("task %s could not be predicted (error %s)", task.get("id"), reference)
            return {
                "error": f"This task could not be predicted; the backend's log tells why under {reference}."
            }


def _predicted(annotator: Annotator, model: LoadedModel, files: PredictionFiles, task: Task) -> Prediction:
    said = annotator.annotate(task, model)
    id = _id(task)
    prediction = Prediction(id or 0, said.result, said.score, said.model_version)
    if id is not None:
        try:
            files.put(prediction, task["data"], said.doubts)
        except OSError as error:
            log.warning("task %d: its prediction cannot be kept: %s", id, error)
    return prediction


def _files(project: Project, version: str) -> PredictionFiles:
    return PredictionFiles(project.root, version, config_fingerprint(project))


def _stored(files: PredictionFiles, task: Task) -> Prediction | None:
    id = _id(task)
    return None if id is None else files.get(id, task.get("data"))


def _kept(files: PredictionFiles, task: Task) -> Element | None:
    stored = _stored(files, task)
    return None if stored is None else _element(stored)


def _element(prediction: Prediction) -> Element:
    return {
        "result": prediction.result,
        "score": prediction.score,
        "model_version": prediction.model_version,
    }


def _id(task: Task) -> int | None:
    """None for one that no file can be named after."""
    id = task.get("id")
    return id if isinstance(id, int) and not isinstance(id, bool) and id > 0 else None


def _key(project: Project, model: LoadedModel, task: Task) -> tuple[object, ...]:
    """Tasks of the same data are the same work, unless their neighbours among all tasks count too."""
    data = fingerprint(task.get("data"))
    alone = model.segmenter.card.spec.input_depth == 1
    return project.id, model.version, config_fingerprint(project), data, None if alone else task.get("id")


def _deferred(seconds: float) -> Element:
    return {
        "error": f"Deferred: this request held more tasks than can be predicted in {seconds:g} s; the "
        "trainer writes the predictions of the others by itself."
    }
