"""What smart tools keep of an image between two clicks: pyramids, of which a click takes small windows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pyramid = tuple[NDArray[Any], ...]

LEVELS = 6
"""Halvings of the image, itself included: with windows of 160 px, objects of up to 5000 px."""
_SMALLEST_SIDE = 32
_PERCENTILES = (0.5, 99.5)
_SAMPLED = 1_000_000
"""Pixels from which the grey range is read."""
_REMEMBERED = 64
"""Answers per image; an answer is a mask in one bit a pixel."""


@dataclass
class ImageState:
    """An image as clicks see it; made once per (image, model version), safe among threads.

    Grey is stretched to its own 0.5–99.5 percentile range and kept as uint16; probabilities are kept as
    uint8 of 255ths. Together 3.3 + 1.3 C bytes a pixel.
    """

    grey: Pyramid
    """uint16 (H, W), (H/2, W/2), …"""
    probabilities: tuple[Pyramid, ...] = ()
    """By class: uint8 (H, W), (H/2, W/2), …; empty before there is a model."""
    _answers: OrderedDict[Hashable, NDArray[np.uint8]] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, image: NDArray[Any], probabilities: NDArray[np.floating[Any]] | None = None) -> ImageState:
        """`image` (H, W) of any depth, `probabilities` (C, H, W) in [0, 1]; raises `ValueError`."""
        if image.ndim != 2 or not image.size:
            raise ValueError(f"an image must be grey (H, W), not {image.shape}")
        if probabilities is not None and probabilities.shape[1:] != image.shape:
            raise ValueError(f"probabilities {probabilities.shape} do not fit an image {image.shape}")
        planes = () if probabilities is None else probabilities
        return cls(
            _pyramid(_stretched(image)),
            tuple(_pyramid(np.round(np.clip(plane, 0, 1) * 255).astype(np.uint8)) for plane in planes),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in px."""
        height, width = self.grey[0].shape
        return height, width

    @property
    def nbytes(self) -> int:
        """Memory in bytes, answers included."""
        planes = (self.grey, *self.probabilities)
        answers = _REMEMBERED * self.grey[0].size // 8
        return sum(level.nbytes for pyramid in planes for level in pyramid) + answers

    def recall(self, key: Hashable, answer: Callable[[], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """The mask (H, W) given for `key` before, else `answer()`, which is remembered."""
        with self._lock:
            packed = self._answers.get(key)
        if packed is None:
            mask = answer()
            with self._lock:
                self._answers[key] = np.packbits(mask, axis=1)
                while len(self._answers) > _REMEMBERED:
                    self._answers.popitem(last=False)
            return mask
        return np.unpackbits(packed, axis=1, count=self.shape[1]).astype(np.bool_)


class StateCache:
    """The image states used last, bounded in bytes; the newest always stays. Safe among threads."""

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._states: OrderedDict[Hashable, ImageState] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], ImageState]) -> ImageState:
        """The state known as `key`, else `make()`; two that ask at once may both make it."""
        with self._lock:
            found = self._states.get(key)
            if found is not None:
                self._states.move_to_end(key)
                return found
        state = make()
        with self._lock:
            self._states[key] = state
            self._states.move_to_end(key)
            while len(self._states) > 1 and self._bytes() > self._max_bytes:
                self._states.popitem(last=False)
        return state

    def __len__(self) -> int:
        return len(self._states)

    def _bytes(self) -> int:
        return sum(state.nbytes for state in self._states.values())


def _stretched(image: NDArray[Any]) -> NDArray[np.uint16]:
    step = max(1, int(np.sqrt(image.size / _SAMPLED)))
    sample = image[::step, ::step].astype(np.float32)
    finite = sample[np.isfinite(sample)]
    low, high = np.percentile(finite, _PERCENTILES) if finite.size else (0.0, 1.0)
    scale = 65535 / max(float(high - low), 1e-6)
    grey = np.nan_to_num((image.astype(np.float32) - np.float32(low)) * np.float32(scale))
    return np.clip(grey, 0, 65535).astype(np.uint16)


def _pyramid(level: NDArray[Any]) -> Pyramid:
    levels = [level]
    while len(levels) < LEVELS and min(levels[-1].shape) > _SMALLEST_SIDE:
        height, width = levels[-1].shape
        levels.append(
            cv2.resize(levels[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        )
    return tuple(levels)
