"""What a dataset looks like in numbers: intensities, class balance, sizes. One image in memory at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, Frozen, Normalisation
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from model_zoo.normalisation import normalise
from training.data.findings import Finding, Findings
from training.data.index import Report, unreadable
from training.data.manifest import Sample
from training.data.masks import BadMask, read_mask
from training.data.micrograph import BadImage, read_micrograph
from training.data.ordered_map import ordered_map

STATISTICS_NAME = "dataset_stats.json"
_COMMON_SIZES = 10
_KINDS: tuple[Any, ...] = ("percentile", "range")


class NothingToMeasure(SRPUError):
    """A part of a dataset without a readable image."""


class Moments(Frozen):
    """Mean and standard deviation over all pixels."""

    mean: float
    std: float


class Intensities(Frozen):
    """Raw values of the images of one bit depth."""

    images: int
    minimum: int
    maximum: int
    mean: float
    std: float
    dark_share: float
    """Share of the pixels that are 0."""
    saturated_share: float
    """Share of the pixels at the largest value of the bit depth."""
    low: tuple[float, float]
    """1st percentile of each image: the smallest and the largest of them."""
    high: tuple[float, float]
    """99th percentile of each image: the smallest and the largest of them."""


class ClassBalance(Frozen):
    """How much there is of a class."""

    name: str
    pixels: int
    share: float
    """Of the pixels that are not ignored."""
    images: int
    """Images it occurs in."""


class Sizes(Frozen):
    """Sizes of the images in px."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    common: dict[str, int]
    """Images by `width×height`, the ten most frequent."""


class DatasetStatistics(Frozen):
    """What `dataset_stats.json` says."""

    part: str
    images: int
    unreadable: int
    groups: int
    normalised: dict[str, Moments]
    """After scaling to [0, 1] by each kind of `Normalisation`: what its `mean` and `std` should be."""
    intensities: dict[str, Intensities]
    """By bit depth: `8` or `16`."""
    classes: tuple[ClassBalance, ...]
    ignored_share: float
    sizes: Sizes

    def normalisation(self, kind: Any = "percentile") -> Normalisation:
        """The normalisation that gives this part zero mean and unit deviation."""
        moments = self.normalised[kind]
        return Normalisation(kind=kind, mean=moments.mean, std=max(moments.std, 1e-6))

    def write(self, path: Path) -> None:
        """Write atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.model_dump_json(indent=1).encode())


class RunningMoments:
    """Mean and deviation of numbers that come in portions (Chan, Golub and LeVeque 1979, eq. 2.1)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, count: int, mean: float, variance: float) -> None:
        """Add a portion by its size, mean and (population) variance."""
        total = self._count + count
        if not total:
            return
        step = mean - self._mean
        self._mean += step * count / total
        self._squares += variance * count + step * step * self._count * count / total
        self._count = total

    @property
    def result(self) -> Moments:
        """Zero for no numbers."""
        variance = self._squares / self._count if self._count else 0.0
        return Moments(mean=self._mean, std=math.sqrt(max(variance, 0.0)))


class _BitDepth:
    """Raw intensities of one bit depth, as a histogram over all images."""

    def __init__(self, levels: int) -> None:
        self.images = 0
        self._counts = np.zeros(levels, np.int64)
        self._low = (math.inf, -math.inf)
        self._high = (math.inf, -math.inf)

    def add(self, counts: NDArray[np.int64]) -> None:
        self.images += 1
        self._counts += counts
        low, high = np.searchsorted(np.cumsum(counts), np.array([0.01, 0.99]) * counts.sum()).tolist()
        self._low = (min(self._low[0], low), max(self._low[1], low))
        self._high = (min(self._high[0], high), max(self._high[1], high))

    @property
    def result(self) -> Intensities:
        levels = np.arange(len(self._counts), dtype=np.float64)
        total = float(self._counts.sum())
        mean = float(levels @ self._counts) / total
        variance = float((levels - mean) ** 2 @ self._counts) / total
        present = np.flatnonzero(self._counts)
        return Intensities(
            images=self.images,
            minimum=int(present[0]),
            maximum=int(present[-1]),
            mean=mean,
            std=math.sqrt(variance),
            dark_share=float(self._counts[0]) / total,
            saturated_share=float(self._counts[-1]) / total,
            low=self._low,
            high=self._high,
        )


class StatisticsBuilder:
    """Takes images one by one; its memory does not grow with them."""

    def __init__(self, classes: Sequence[ClassInfo]) -> None:
        self._classes = tuple(classes)
        self._depths: dict[int, _BitDepth] = {}
        self._moments = {kind: RunningMoments() for kind in _KINDS}
        self._pixels = np.zeros(256, np.int64)
        self._holders = np.zeros(256, np.int64)
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._groups: set[int] = set()  # hashes: a number for each, however long the names
        self._unreadable = 0

    def add(self, image: NDArray[Any], mask: NDArray[np.uint8] | None, group: str) -> None:
        """Add one image, uint8 or uint16 (H, W), and its mask (H, W)."""
        bits = 8 * image.dtype.itemsize
        counts = np.bincount(image.ravel(), minlength=1 << bits)
        self._depths.setdefault(bits, _BitDepth(1 << bits)).add(counts)
        for kind, moments in self._moments.items():
            values = normalise(image[None], Normalisation(kind=kind, mean=0.0, std=1.0))
            moments.add(
                values.size, float(values.mean(dtype=np.float64)), float(values.var(dtype=np.float64))
            )
        self._sizes[image.shape[1], image.shape[0]] += 1
        self._groups.add(hash(group))
        if mask is not None:
            pixels = np.bincount(mask.ravel(), minlength=256)
            self._pixels += pixels
            self._holders += pixels > 0

    def miss(self) -> None:
        """Count an image that could not be read."""
        self._unreadable += 1

    def result(self, part: str) -> DatasetStatistics:
        """The statistics so far; raises `NothingToMeasure` when there was no image."""
        if not self._sizes:
            raise NothingToMeasure(f"The part {part} holds no image that can be read; nothing was measured.")
        learnt = max(1, int(self._pixels[: len(self._classes)].sum()))
        ordered = sorted(self._sizes, key=lambda size: (size[0] * size[1], size))
        return DatasetStatistics(
            part=part,
            images=sum(self._sizes.values()),
            unreadable=self._unreadable,
            groups=len(self._groups),
            normalised={kind: moments.result for kind, moments in self._moments.items()},
            intensities={str(bits): depth.result for bits, depth in sorted(self._depths.items())},
            classes=tuple(
                ClassBalance(
                    name=info.name,
                    pixels=int(self._pixels[index]),
                    share=float(self._pixels[index]) / learnt,
                    images=int(self._holders[index]),
                )
                for index, info in enumerate(self._classes)
            ),
            ignored_share=float(self._pixels[255]) / max(1, int(self._pixels.sum())),
            sizes=Sizes(
                smallest=ordered[0],
                largest=ordered[-1],
                common={f"{w}×{h}": count for (w, h), count in self._sizes.most_common(_COMMON_SIZES)},
            ),
        )


def measure(
    samples: Iterable[Sample],
    classes: Sequence[ClassInfo],
    part: str,
    findings: Findings,
    report: Report = lambda what, done, total: None,
    workers: int = 0,
) -> DatasetStatistics:
    """Statistics of the samples that play `part`; what cannot be read goes to `findings`."""
    builder = StatisticsBuilder(classes)
    chosen = (sample for sample in samples if sample.part == part)
    for done, (sample, read) in enumerate(ordered_map(_read, chosen, workers), start=1):
        report("measuring", done, 0)
        if isinstance(read, Finding):
            findings.add(read)
            builder.miss()
        else:
            builder.add(*read, sample.group)
    return builder.result(part)


def _read(sample: Sample) -> tuple[NDArray[Any], NDArray[np.uint8] | None] | Finding:
    try:
        return read_micrograph(sample.image), None if sample.mask is None else read_mask(sample.mask)
    except (BadImage, BadMask) as error:
        return unreadable(sample.key, str(error))
