"""A task and a context in, regions out: smart tools as Label Studio calls them."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from srpu_backend.annotator import UNTRAINED, Annotator, Champion, Images, LoadedModel
from srpu_backend.interactive.context import LabelledPrompts, read_context
from srpu_backend.interactive.image_state import ImageState, StateCache
from srpu_backend.interactive.segmentation import Region, segment
from srpu_backend.label_config import LabelConfig
from srpu_backend.projects import Project
from srpu_backend.regions import encode_mask
from training.data.manifest import IGNORE_INDEX

log = logging.getLogger(__name__)

Answer = dict[str, Any]


class SmartTool:
    """Answers clicks, boxes and strokes; keeps the images clicked at last. Safe among threads."""

    def __init__(self, images: Images, states: StateCache | None = None) -> None:
        self._images = images
        self._states = states or StateCache()

    def answer(
        self, project: Project, champion: Champion, task: Mapping[str, Any], context: object
    ) -> Answer:
        """An element of /predict's answer; with `error`, one sentence, and no region where there is none.

        Never raises: the editor shows an empty answer as nothing, and an error as an alarm.
        """
        version = champion.version() or UNTRAINED
        try:
            return self._answer(project, champion, task, context, version)
        except SRPUError as error:
            sentence = str(error)
        except Exception:  # one click must not look like a backend that is broken
            reference = uuid.uuid4().hex[:8]
            log.exception("smart tool on task %s failed (error %s)", task.get("id"), reference)
            sentence = f"The smart tool failed here; the backend's log tells why under {reference}."
        log.warning("project %d: smart tool on task %s: %s", project.id, task.get("id"), sentence)
        return {"result": [], "score": 0.0, "model_version": version, "error": sentence}

    def _answer(
        self,
        project: Project,
        champion: Champion,
        task: Mapping[str, Any],
        context: object,
        version: str,
    ) -> Answer:
        config = project.label_config
        model = _model(champion)
        known = json.dumps(task.get("data"), sort_keys=True, default=str)
        key = (project.id, known, model.version if model else UNTRAINED)
        state = self._states.get(key, lambda: _look(Annotator(project, self._images, champion), task, model))
        results: list[dict[str, Any]] = []
        scores = []
        for asked in read_context(context, config, state.shape):
            if not asked.prompts.points_at_something:
                continue
            region = segment(
                state,
                asked.prompts,
                class_index=_place(model, config, asked.label),
                instances=config.instances,
            )
            results += _results(region, asked, config)
            scores.append(region.score)
        return {
            "result": results,
            "score": float(np.mean(scores)) if scores else 0.0,
            "model_version": version,
        }


def _model(champion: Champion) -> LoadedModel | None:
    """The champion where there is one that can be used: clicks work without."""
    if champion.version() is None:
        return None
    try:
        return champion.current()
    except (SRPUError, OSError) as error:
        log.warning("smart tools go on without a model: %s", error)
        return None


def _look(annotator: Annotator, task: Mapping[str, Any], model: LoadedModel | None) -> ImageState:
    depth = model.segmenter.card.spec.input_depth if model else 1
    stack = annotator.stack(task, depth)
    probabilities: NDArray[np.float32] | None = None
    if model is not None:
        try:
            probabilities = model.predict(stack).probabilities
        except SRPUError as error:
            log.warning("smart tools go on without the model on task %s: %s", task.get("id"), error)
    return ImageState.of(stack[len(stack) // 2], probabilities)


def _place(model: LoadedModel | None, config: LabelConfig, label: int) -> int | None:
    """The model's index of a class of the config; None where it does not know it."""
    classes = model.segmenter.card.classes if model else ()
    for place, info in enumerate(classes):
        if (config.background if info.implicit else config.index_of(info.name)) == label:
            return place
    return None


def _results(region: Region, asked: LabelledPrompts, config: LabelConfig) -> list[dict[str, Any]]:
    class_map = np.where(region.mask > 0, np.uint8(asked.label), np.uint8(IGNORE_INDEX))
    scores = {config.classes[asked.label].name: region.score}
    return encode_mask(class_map, config, scores).results
