"""Whoever says what is where in an image: a model, or a folder of masks written by anything at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, ModelCard
from model_zoo.errors import SRPUError
from model_zoo.inference import Segmentation
from training.data.manifest import IGNORE_INDEX, Sample
from training.data.masks import BadMask, read_mask
from training.data.micrograph import image_size
from training.data.samples import read_stack


class BadPrediction(SRPUError):
    """A folder of predictions that is not what is to be measured."""


class Segmenter(Protocol):
    """The part of `model_zoo.inference.Predictor` that is needed here."""

    card: ModelCard

    def predict(self, stack: NDArray[Any]) -> Segmentation: ...


class Answers(Protocol):
    """What is to be measured."""

    name: str
    """A model's version, or a folder."""

    def class_map(self, sample: Sample) -> NDArray[np.uint8]:
        """What is where in the sample's image: (H, W), indices into the manifest's classes, or 255 where it
        is not said."""


class ModelAnswers:
    """A model's. Classes are matched by name: one that the model does not know is never predicted, one that
    only the model knows counts as index 0."""

    def __init__(self, predictor: Segmenter, classes: Sequence[ClassInfo]) -> None:
        self.name = predictor.card.version
        self._predictor = predictor
        self._table = class_table(predictor.card, [info.name for info in classes])

    def class_map(self, sample: Sample) -> NDArray[np.uint8]:
        """See `Answers`; raises `BadSample` or `BadImage` for an image that cannot be read."""
        stack = read_stack(sample, self._predictor.card.spec.input_depth)
        return self._table[self._predictor.predict(stack).class_map]


class FolderAnswers:
    """Index PNGs in a folder, one for each image, named as its key or its file: `<stem>.png`."""

    def __init__(self, folder: Path, classes: Sequence[ClassInfo]) -> None:
        if not folder.is_dir():
            raise BadPrediction(f"{folder} is not a folder; give the folder with one PNG for each image.")
        self.name = str(folder)
        self._folder = folder
        self._classes = len(classes)

    def require(self, samples: Sequence[Sample]) -> None:
        """Raise `BadPrediction` unless there is one for each: a score over some of them would flatter."""
        missing = [sample for sample in samples if self._path(sample) is None]
        if missing:
            raise BadPrediction(
                f"{len(missing)} of {len(samples)} predictions are missing in {self._folder}, the first "
                f"{missing[0].image.stem}.png; write one PNG for each image, named as the image."
            )

    def class_map(self, sample: Sample) -> NDArray[np.uint8]:
        """See `Answers`; raises `BadPrediction` for one that is missing, unreadable or does not fit."""
        path = self._path(sample)
        if path is None:
            raise BadPrediction(f"There is no {sample.image.stem}.png in {self._folder}; write one.")
        try:
            found: NDArray[np.uint8] = read_mask(path)
        except BadMask as error:
            raise BadPrediction(str(error)) from None
        width, height = image_size(sample.image)
        if found.shape != (height, width):
            raise BadPrediction(
                f"The prediction {path} is {found.shape[1]} × {found.shape[0]} px, its image {sample.image} "
                f"{width} × {height} px; write it at the size of the image."
            )
        strays = found[(found >= self._classes) & (found != IGNORE_INDEX)]
        if strays.size:
            raise BadPrediction(
                f"The prediction {path} holds the index {int(strays.max())}, but there are {self._classes} "
                f"classes: 0 to {self._classes - 1}."
            )
        return found

    def _path(self, sample: Sample) -> Path | None:
        names = (f"{sample.key}.png", f"{sample.image.stem}.png")
        return next((path for name in names if (path := self._folder / name).is_file()), None)


def class_table(card: ModelCard, wanted: Sequence[str]) -> NDArray[np.uint8]:
    """Index in `wanted` of each of the model's classes, by name: uint8 (model's classes,); 0 if not there."""
    places = {name: index for index, name in enumerate(wanted)}
    return np.array([places.get(info.name, 0) for info in card.classes], dtype=np.uint8)
