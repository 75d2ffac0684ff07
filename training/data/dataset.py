"""Crops to learn from: labelled images held ready, and a stream of random windows of them.

What item number n of the stream is depends on the seed and on n alone: not on the number of worker processes,
and not on whether the training was interrupted before it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from model_zoo.card import Normalisation
from model_zoo.errors import SRPUError
from model_zoo.normalisation import normalise, picture
from training.augmentation.augmenter import Augmenter
from training.augmentation.config import Augmentation
from training.augmentation.copy_paste import CopyPaste
from training.config import TrainingConfig
from training.data.manifest import IGNORE_INDEX, Sample
from training.data.samples import BadSample, read_stack, read_truth
from training.fitting.hardware import ResolvedConfig

log = logging.getLogger(__name__)

_LEVELS = 65535  # intensities in [0, 1] are kept as uint16: half of float32's memory, finer than any detector


@dataclass(frozen=True)
class LabelledImage:
    """One image ready to be cropped; arrays are in memory or mapped from disk."""

    key: str
    pixels: NDArray[np.uint16]
    """(D, H, W), normalised over the whole image to [0, 1] and scaled to 0 … 65535."""
    truth: NDArray[np.uint8]
    """(H, W), 255 = ignore."""
    rows: NDArray[np.int64]
    """(C, H): pixels of each class in each row."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each class: (C,)."""
        counts: NDArray[np.int64] = self.rows.sum(axis=1)
        return counts

    def pixel_of(self, class_index: int, rng: np.random.Generator) -> tuple[int, int]:
        """(row, column) of a pixel of that class, all equally likely; there must be one."""
        below = np.cumsum(self.rows[class_index])
        row = int(np.searchsorted(below, rng.integers(below[-1]), side="right"))
        return row, int(rng.choice(np.flatnonzero(self.truth[row] == class_index)))


class LabelledImages:
    """The training images that could be read; `problems` has a sentence for each of the others."""

    def __init__(self, images: Sequence[LabelledImage], problems: Sequence[str] = ()) -> None:
        self.images = tuple(images)
        self.problems = tuple(problems)

    @classmethod
    def load(
        cls,
        samples: Sequence[Sample],
        classes: int,
        config: TrainingConfig,
        folder: Path,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> LabelledImages:
        """Decode and normalise all `samples`; those beyond `config.memory_mb` are mapped from `folder`.

        `report` is called with (images done, images in all).
        """
        images: list[LabelledImage] = []
        problems: list[str] = []
        room = config.memory_mb * 2**20
        for done, sample in enumerate(samples):
            report(done, len(samples))
            try:
                image = _load(sample, classes, config.input_depth, config.normalisation)
            except SRPUError as error:
                log.warning("%s is left out: %s", sample.key, error)
                problems.append(f"{sample.key} is left out: {error}")
                continue
            room -= image.pixels.nbytes + image.truth.nbytes
            images.append(image if room >= 0 else _mapped(image, folder / f"{done}"))
        return cls(images, problems)

    @property
    def pixel_counts(self) -> NDArray[np.int64]:
        """Pixels of each class over all images: (C,)."""
        counts: NDArray[np.int64] = np.sum([image.counts for image in self.images], axis=0)
        return counts


def _load(sample: Sample, classes: int, depth: int, how: Normalisation) -> LabelledImage:
    stack = read_stack(sample, depth)
    truth = read_truth(sample, (stack.shape[1], stack.shape[2]), classes).copy()
    truth[picture(stack, how).shape[1] :] = IGNORE_INDEX
    rows = np.stack([np.count_nonzero(truth == index, axis=1) for index in range(classes)])
    if not rows.any():
        raise BadSample(f"Every pixel of the mask {sample.mask} is ignored; there is nothing to learn from.")
    # Zero mean and unit deviation come after the augmentation, which works on intensities in [0, 1].
    scaled = normalise(stack, how.model_copy(update={"mean": 0.0, "std": 1.0}))
    pixels = np.rint(scaled * _LEVELS).astype(np.uint16)
    return LabelledImage(sample.key, pixels, truth, rows.astype(np.int64))


def _mapped(image: LabelledImage, stem: Path) -> LabelledImage:
    stem.parent.mkdir(parents=True, exist_ok=True)
    arrays = []
    for name, array in (("pixels", image.pixels), ("truth", image.truth)):
        path = stem.with_name(f"{stem.name}-{name}.npy")
        np.save(path, array)
        arrays.append(np.load(path, mmap_mode="r"))
    return LabelledImage(image.key, arrays[0], arrays[1], image.rows)


class TrainingCrops(Dataset[tuple[Tensor, Tensor]]):
    """Endless: item n is a window of side `config.crop`, float32 (D, H, W) and uint8 (H, W).

    Images come in a new random order each time all of them have been seen. A share of the crops is centred,
    up to a random shift, on a pixel of one of the rarer classes, each class equally often, wherever it occurs
    (as nnU-Net oversamples foreground).
    """

    def __init__(self, images: LabelledImages, config: ResolvedConfig) -> None:
        self.images = images.images
        self.config = config
        self._augment = Augmenter(config.augmentation)
        self._paste = CopyPaste(self.images, images.pixel_counts, config.augmentation, config.crop // 2)
        self._rarer = _images_of_rarer_classes(images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.config.seed, index])
        image, centre = self._choose(index, rng)
        scale = magnification(self.config.augmentation, rng)
        window = Window.around(image, centre, round(self.config.crop / scale), rng)
        pixels, truth = window.cut(image)
        if (truth == IGNORE_INDEX).all():  # nobody spoke about this place: go where somebody did
            labelled = rng.choice(np.flatnonzero(image.counts))
            window = Window.around(image, image.pixel_of(int(labelled), rng), window.side, rng)
            pixels, truth = window.cut(image)
        # Random numbers of its own: with and without it, everything else about a crop is the same.
        pixels, truth = self._paste(pixels, truth, image, np.random.default_rng([self.config.seed, index, 1]))
        pixels, truth = resized(pixels, truth, self.config.crop)
        pixels, truth = self._augment(pixels, truth, int(rng.integers(2**31)))
        how = self.config.normalisation
        pixels = (pixels - np.float32(how.mean)) / np.float32(how.std)
        return torch.from_numpy(pixels), torch.from_numpy(truth)

    def _choose(self, index: int, rng: np.random.Generator) -> tuple[LabelledImage, tuple[int, int] | None]:
        if self._rarer and rng.random() < self.config.foreground_crops:
            class_index, holders = self._rarer[rng.integers(len(self._rarer))]
            image = self.images[rng.choice(holders)]
            return image, image.pixel_of(class_index, rng)
        round_number, place = divmod(index, len(self.images))
        return self.images[_order(self.config.seed, round_number, len(self.images))[place]], None


@dataclass(frozen=True)
class Window:
    """A square of the image, in px; parts of it may lie outside."""

    top: int
    left: int
    side: int

    @classmethod
    def around(
        cls, image: LabelledImage, centre: tuple[int, int] | None, side: int, rng: np.random.Generator
    ) -> Window:
        """Anywhere (`centre` None), or anywhere that holds the pixel `centre`; outside only where it must."""
        starts = []
        for axis, length in enumerate(image.truth.shape):
            low, high = min(0, length - side), max(0, length - side)
            if centre is not None:
                low, high = max(low, centre[axis] - side + 1), min(high, centre[axis])
            starts.append(int(rng.integers(low, high + 1)))
        return cls(starts[0], starts[1], side)

    def cut(self, image: LabelledImage) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Intensities (D, side, side) in [0, 1], mirrored outside the image, and truth, ignored there."""
        height, width = image.truth.shape
        rows = slice(max(self.top, 0), min(self.top + self.side, height))
        columns = slice(max(self.left, 0), min(self.left + self.side, width))
        outside = (
            (rows.start - self.top, self.top + self.side - rows.stop),
            (columns.start - self.left, self.left + self.side - columns.stop),
        )
        pixels = image.pixels[:, rows, columns].astype(np.float32) / np.float32(_LEVELS)
        truth = np.array(image.truth[rows, columns])
        if any(itertools.chain(*outside)):
            pixels = np.pad(pixels, ((0, 0), *outside), mode="symmetric")
            truth = np.pad(truth, outside, constant_values=IGNORE_INDEX)
        return pixels, truth


def _images_of_rarer_classes(images: LabelledImages) -> list[tuple[int, list[int]]]:
    """Every class that occurs but the most frequent one, with the images it occurs in."""
    counts = images.pixel_counts
    rarer = [int(index) for index in np.flatnonzero(counts) if index != counts.argmax()]
    return [
        (index, [place for place, image in enumerate(images.images) if image.counts[index] > 0])
        for index in rarer
    ]


def magnification(augmentation: Augmentation, rng: np.random.Generator) -> float:
    """What a crop is magnified by, even in its logarithm."""
    if not augmentation.enabled:
        return 1.0
    low, high = np.log(augmentation.scale)
    return float(np.exp(rng.uniform(low, high)))


def resized(
    pixels: NDArray[np.float32], truth: NDArray[np.uint8], side: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """(D, H, W) and (H, W) brought to (D, side, side) and (side, side); classes are never mixed."""
    if truth.shape == (side, side):
        return pixels, truth
    kind = cv2.INTER_AREA if side < truth.shape[0] else cv2.INTER_LINEAR
    frames = [cv2.resize(frame, (side, side), interpolation=kind) for frame in pixels]
    return np.stack(frames), cv2.resize(truth, (side, side), interpolation=cv2.INTER_NEAREST_EXACT)


@lru_cache(maxsize=4)
def _order(seed: int, round_number: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, round_number, count]).permutation(count)


class Onward(Sampler[int]):
    """start + first, start + first + every, … without end; `start` is asked when a pass begins."""

    def __init__(self, start: Callable[[], int], first: int = 0, every: int = 1) -> None:
        self._start = start
        self._first, self._every = first, every

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._start() + self._first, self._every)


def loader(
    crops: TrainingCrops,
    batch_size: int,
    workers: int,
    start: Callable[[], int],
    pin_memory: bool,
    first: int = 0,
    every: int = 1,
) -> DataLoader[Any]:
    """Batches of `crops` without end, from item `start()` on.

    Where `every` processes share the stream, number `first` takes items first, first + every, … of it.
    """
    return DataLoader(
        crops,
        batch_size=batch_size,
        sampler=Onward(start, first, every),
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    """Workers are the parallelism; OpenCV's own threads would only fight over the cores."""
    cv2.setNumThreads(0)
