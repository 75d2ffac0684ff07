"""From a task's image to regions and a score, with the project's champion."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from srpu_backend.frames import frames_around
from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import encode_mask, remap
from training.active_learning.pool_answers import NAMES, numbers_of
from training.data.micrograph import image_size
from training.data.samples import read_frames

if TYPE_CHECKING:
    from model_zoo.card import ClassInfo, ModelCard
    from model_zoo.inference import Segmentation
    from model_zoo.registry import Registry
    from srpu_backend.projects import Connection, Project

log = logging.getLogger(__name__)

UNTRAINED = "untrained"
"""The model version of a project that has no model yet."""
NO_MODEL_YET = "This project has no model yet: label a few images, the first training follows by itself."


class NoModel(SRPUError):
    """A project that has no champion yet."""


class BadTask(SRPUError):
    """A task that does not hold what its label config asks for."""


class Images(Protocol):
    """What we need of `srpu_backend.images.ImageStore`."""

    def fetch(self, reference: str, connection: Connection | None, task_id: int | None = None) -> Path: ...

    def load(
        self, reference: str, connection: Connection | None, task_id: int | None = None
    ) -> NDArray[Any]: ...


class Segmenter(Protocol):
    """What we need of `model_zoo.inference.Predictor`."""

    @property
    def card(self) -> ModelCard: ...

    def predict(self, stack: NDArray[Any]) -> Segmentation: ...


@dataclass(frozen=True)
class Annotation:
    """One prediction as Label Studio stores it."""

    result: list[dict[str, Any]]
    score: float
    """1 − normalised predictive entropy, in [0, 1]: low = label this first."""
    model_version: str
    dropped: int = 0
    """Areas, the smallest, that are not among the polygons; see `model_max_regions`."""
    doubts: tuple[float, ...] = ()
    """What ranking needs: the numbers of `training.active_learning.pool_answers.numbers_of`."""

    def as_prediction(self) -> dict[str, Any]:
        """The element of `/predict`'s answer, or of a bulk import."""
        return {"result": self.result, "score": self.score, "model_version": self.model_version}


def load_predictor(folder: Path) -> Segmenter:
    """A version's network, from its folder, warmed up; raises `BrokenModel`."""
    # Imported at the first prediction: the engine starts threads when it is imported, and gunicorn forks.
    from model_zoo.inference import Predictor

    predictor = Predictor.load(folder)
    depth, side = predictor.card.spec.input_depth, predictor.card.tile
    grey = np.arange(depth * side * side, dtype=np.uint32).reshape(depth, side, side).astype(np.uint8)
    predictor.predict(grey)  # engines compile at their first tile: nobody should wait for that
    return predictor


@dataclass(frozen=True)
class LoadedModel:
    """A version in memory. One prediction at a time: it uses all cores, and memory stays bounded."""

    version: str
    segmenter: Segmenter
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def predict(self, stack: NDArray[Any]) -> Segmentation:
        """Segment `stack` (D, H, W); waits for its turn."""
        with self._lock:
            return self.segmenter.predict(stack)


Background = Callable[[Callable[[], None]], object]
"""Runs something while its caller goes on."""


def in_a_thread(work: Callable[[], None]) -> None:
    """Run `work` in a thread that does not keep the process from ending."""
    threading.Thread(target=work, name="champion", daemon=True).start()


class Champion:
    """A registry's champion in memory, exchanged when the pointer moves.

    A new champion is loaded, and run once, in the background; until it is ready the old one serves, so that
    nobody waits for it. A champion that cannot be loaded is an error only while there is no older one.
    """

    def __init__(
        self,
        registry: Registry,
        load: Callable[[Path], Segmenter] = load_predictor,
        background: Background = in_a_thread,
    ) -> None:
        self._registry = registry
        self._load = load
        self._background = background
        self._loading = threading.Lock()
        self._loaded: LoadedModel | None = None
        self._refused: str | None = None

    def version(self) -> str | None:
        """The version the pointer names now, loaded or not; None before the first promotion."""
        return self._registry.champion()

    def prepare(self) -> None:
        """Begin to load the champion unless that is done or under way; returns at once."""
        wanted = self.version()
        loaded = self._loaded
        known = (self._refused, loaded.version if loaded else None)
        if wanted is None or wanted in known or not self._loading.acquire(blocking=False):
            return
        try:
            self._background(lambda: self._load_and_release(wanted))
        except BaseException:
            self._loading.release()
            raise

    def current(self) -> LoadedModel:
        """The newest champion that is loaded; waits only for the very first.

        Raises `NoModel`, or what reading its folder raises.
        """
        wanted = self.version()
        if wanted is None:
            raise NoModel(NO_MODEL_YET)
        if self._loaded is None:
            with self._loading:
                return self._loaded or self._exchange(wanted)
        self.prepare()
        return self._loaded

    def _load_and_release(self, wanted: str) -> None:
        try:
            self._exchange(wanted)
        except Exception as error:  # whatever ails a model, the one before it goes on serving
            old = self._loaded
            self._refused = wanted if old else None
            serving = f"{old.version} keeps serving" if old else "there is no other"
            log.error("champion %s cannot be loaded, %s: %s", wanted, serving, error)
        finally:
            self._loading.release()

    def _exchange(self, wanted: str) -> LoadedModel:
        loaded = LoadedModel(wanted, self._load(self._registry.folder(wanted)))
        self._loaded = loaded
        log.info("champion %s loaded", wanted)
        return loaded


class Champions:
    """The champions of the projects used last; the one used longest ago makes room."""

    def __init__(
        self,
        capacity: int,
        load: Callable[[Path], Segmenter] = load_predictor,
        background: Background = in_a_thread,
    ) -> None:
        self._capacity = capacity
        self._load = load
        self._background = background
        self._lock = threading.Lock()
        self._champions: OrderedDict[int, Champion] = OrderedDict()

    def of(self, project: Project) -> Champion:
        """The project's champion; costs nothing until it predicts."""
        with self._lock:
            champion = self._champions.get(project.id)
            champion = champion or Champion(project.registry, self._load, self._background)
            self._champions[project.id] = champion
            self._champions.move_to_end(project.id)
            while len(self._champions) > self._capacity:
                self._champions.popitem(last=False)
            return champion


class Annotator:
    """Annotates a project's tasks with its champion; safe among threads."""

    def __init__(self, project: Project, images: Images, champion: Champion | None = None) -> None:
        self._project = project
        self._images = images
        self._champion = champion or Champion(project.registry)

    def version(self) -> str | None:
        """The champion's version; None before the first model."""
        return self._champion.version()

    def annotate(self, task: Mapping[str, Any], model: LoadedModel | None = None) -> Annotation:
        """Regions and score for one Label Studio task, by `model` or else by the champion.

        Raises `BadTask`, `ImageUnavailable`, `BadImage`, `BadLabelConfig`, `NoModel` or `BrokenModel`,
        each with a sentence for a person.
        """
        config = self._project.label_config
        self._references(task)
        model = model or self._champion.current()
        segmentation = model.predict(self.stack(task, model.segmenter.card.spec.input_depth))
        classes = model.segmenter.card.classes
        class_map = remap(segmentation.class_map, classes, config)
        encoded = encode_mask(class_map, config, class_scores(segmentation, classes, config))
        doubts = numbers_of(segmentation, len(classes))
        return Annotation(
            result=encoded.results,
            score=float(np.clip(1.0 - doubts[NAMES.index("entropy")], 0.0, 1.0)),
            model_version=model.version,
            dropped=encoded.dropped,
            doubts=tuple(doubts.tolist()),
        )

    def stack(self, task: Mapping[str, Any], depth: int) -> NDArray[Any]:
        """What a network of `input_depth` frames sees: (depth, H, W), as training does.

        Grey of the original when the task names one, else of the image that is shown; around it the frames
        of its sequence. Raises `BadTask`, `ImageUnavailable` or `BadImage`.
        """
        shown, original = self._references(task)
        connection, id = self._project.connection, task.get("id")
        if depth == 1:
            stack = self._images.load(original or shown, connection, id)[np.newaxis]
        else:
            image = self._images.fetch(original or shown, connection, id)
            data = task["data"]
            around = frames_around(self._project, self._images, id, data, image, depth)
            stack = read_frames(around or (image,) * depth)
        if original:
            self._check_size(task, stack, self._images.fetch(shown, connection, id))
        return stack

    def _references(self, task: Mapping[str, Any]) -> tuple[str, str | None]:
        """What is shown, and its original if there is one."""
        field = self._project.label_config.image_field
        shown = _reference(task.get("data"), field)
        if shown is None:
            raise BadTask(
                f"Task {task.get('id')} has no data.{field}, which the label config shows as "
                "its image: import the task again with it."
            )
        return shown, _reference(task.get("data"), "original")

    def _check_size(self, task: Mapping[str, Any], stack: NDArray[Any], shown: Path) -> None:
        size = image_size(shown)
        height, width = stack.shape[1:]
        if size != (width, height):
            raise BadTask(
                f"Task {task.get('id')}: the original is {width}×{height} px but the "
                f"image that is shown is {size[0]}×{size[1]} px; import the folder again, so that both "
                "agree."
            )


def class_scores(
    segmentation: Segmentation, classes: Sequence[ClassInfo], config: LabelConfig
) -> dict[str, float]:
    """Confidence by the config's class name: the mean probability of a class over the pixels it won.

    Classes that won no pixel, or that the config does not have, are left out.
    """
    scores: dict[str, float] = {}
    for place, info in enumerate(classes):
        index = config.background if info.implicit else config.index_of(info.name)
        won = segmentation.class_map == place
        if index is not None and won.any():
            scores[config.classes[index].name] = float(segmentation.probabilities[place][won].mean())
    return scores


def _reference(data: object, field: str) -> str | None:
    value = data.get(field) if isinstance(data, Mapping) else None
    return value if isinstance(value, str) and value.strip() else None
