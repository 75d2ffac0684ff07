"""A model version that answers images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ModelCard, background
from model_zoo.decoders import stride
from model_zoo.errors import BrokenModel
from model_zoo.inference.engine_record import EngineName
from model_zoo.inference.engines import Engine, load_engine
from model_zoo.inference.mirrored import Mirrored
from model_zoo.inference.tiles import BadImageStack, Band, Tiling, bands
from model_zoo.integrity import verify
from model_zoo.normalisation import normaliser, picture

_ROWS = 256  # argmax gives 8 bytes a pixel: taken in strips


@dataclass(frozen=True)
class Segmentation:
    """What a model says of one image of H x W px."""

    class_map: NDArray[np.uint8]
    """(H, W): index of the most probable class."""
    probabilities: NDArray[np.float32]
    """(C, H, W), summing to 1 over C."""


class Predictor:
    """Holds one network in memory; `predict` may be called from several threads."""

    def __init__(self, card: ModelCard, engine: Engine) -> None:
        self.card = card
        self.engine = engine
        self._tiling = Tiling.of(card.tile, stride(card.spec))
        self._background = background(card.classes)

    @classmethod
    def load(
        cls,
        folder: Path,
        engine: EngineName = "auto",
        threads: int | None = None,
        mirrored: bool = False,
    ) -> Predictor:
        """Load a model folder after checking its files against its card.

        `engine` is `auto` (what was chosen for this version, see `choice`; else ONNX Runtime, or torch where
        there is no ONNX file) or the name of one; `threads` bounds the CPU threads of one prediction;
        `mirrored` averages over mirror images, see `model_zoo.inference.mirrored`. Raises `BrokenModel`.
        """
        card = ModelCard.read(folder)
        verify(folder, card)
        if len(card.classes) != card.spec.classes:
            raise BrokenModel(
                f"The card of {folder} names {len(card.classes)} classes for {card.spec.classes} outputs."
            )
        loaded = load_engine(folder, card, engine, threads)
        return cls(card, Mirrored(loaded) if mirrored else loaded)

    def predict(self, stack: NDArray[Any]) -> Segmentation:
        """Segment one image: (D, H, W) or, for a model of single images, (H, W); any size, any depth of grey.

        Intensities are normalised over the whole image before it is cut into tiles. Raises
        `BadImageStack` or `model_zoo.normalisation.BadIntensities`.
        """
        stack = self._checked(stack)
        found = np.empty((self.card.spec.classes, *stack.shape[1:]), dtype=np.float32)
        for band in self.bands(stack):
            found[:, band.rows] = band.probabilities
        return Segmentation(most_probable(found), found)

    def class_map(self, stack: NDArray[Any]) -> NDArray[np.uint8]:
        """As `predict`, but only the most probable class, (H, W): no more than a row of tiles is held."""
        stack = self._checked(stack)
        found = np.empty(stack.shape[1:], dtype=np.uint8)
        for band in self.bands(stack):
            found[band.rows] = most_probable(band.probabilities)
        return found

    def bands(self, stack: NDArray[Any]) -> Iterator[Band]:
        """As `predict`, from top to bottom, for images whose probabilities are too many to be held.

        An info bar that the model's normalisation leaves out is background for certain.
        """
        stack = self._checked(stack)
        scaled = normaliser(stack, self.card.normalisation)
        rows = picture(stack, self.card.normalisation).shape[1]
        for band in bands(
            stack,
            self.card.spec.classes,
            lambda tiles: self.engine.logits(scaled(tiles)),
            self._tiling,
            self.engine.batch,
        ):
            bar = band.probabilities[:, max(0, rows - band.rows.start) :]
            bar[:] = 0
            bar[self._background] = 1
            yield band

    def _checked(self, stack: NDArray[Any]) -> NDArray[Any]:
        depth = self.card.spec.input_depth
        if stack.ndim == 2:
            stack = stack[None]
        if stack.ndim != 3 or stack.size == 0:
            raise BadImageStack(f"An image must be (frames, height, width); this one is {stack.shape}.")
        if stack.shape[0] != depth:
            raise BadImageStack(
                f"Model {self.card.version or 'without version'} looks at {depth} frames at a time; "
                f"this stack has {stack.shape[0]}."
            )
        return stack


def most_probable(found: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(C, H, W) → (H, W): the first of the classes that are highest."""
    class_map = np.empty(found.shape[1:], dtype=np.uint8)
    for top in range(0, class_map.shape[0], _ROWS):
        class_map[top : top + _ROWS] = found[:, top : top + _ROWS].argmax(axis=0)
    return class_map
