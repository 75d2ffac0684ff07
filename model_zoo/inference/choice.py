"""Choosing what serves a version: every engine this machine has is tried on real images.

Only those may serve whose class maps are float32 torch's, on at least 99.9 % of the pixels and without
moving any class's IoU by more than 0.1 point; the fastest of them does.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ModelCard
from model_zoo.inference.engine_record import EngineChoice, EngineMeasurement, Measurable
from model_zoo.inference.engines import Engine, load_engine, unavailable
from model_zoo.inference.predictor import Predictor
from model_zoo.inference.processor import processor_name, processor_threads
from model_zoo.integrity import verify

_log = logging.getLogger(__name__)

Maps = list[NDArray[np.uint8]]
Load = Callable[[Path, ModelCard, Measurable, int | None], Engine]

LEAST_EQUAL = 0.999
MOST_IOU_CHANGE = 0.1
"""In points."""
UNSAID = 255
_TIMINGS = 5
"""At least; images are shown again where there are fewer."""
_LEAD = 0.9
"""Share of the base engine's time that another must stay below: less is noise."""


@dataclass(frozen=True)
class Example:
    """An image to try engines on."""

    stack: NDArray[Any]
    """(D, H, W) as `Predictor.predict` takes it."""
    truth: NDArray[np.uint8] | None = None
    """(H, W): the model's class indices, 255 where nothing is said; None for an unlabelled image, whose
    truth is then what float32 torch says."""


def choose_engine(
    folder: Path,
    examples: Sequence[Example],
    threads: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
    load: Load = load_engine,
) -> EngineChoice:
    """Try all engines on `examples` (one or more), one after the other; torch, the measure of all, first.

    `threads` bounds the CPU threads; `report` is called with (engines done, engines in all). Raises
    `BrokenModel`, or what an image of the wrong shape raises.
    """
    card = ModelCard.read(folder)
    verify(folder, card)
    names = sorted(get_args(Measurable), key=lambda name: name != "torch")
    report(0, len(names))
    reference, duration = _answers(card, load(folder, card, "torch", threads), examples, clock)
    measured = [_judged("torch", reference, reference, examples, card, duration)]
    for done, name in enumerate(names[1:], 1):
        report(done, len(names))
        gc.collect()  # the engine before, and its arena
        measured.append(_tried(folder, card, name, examples, reference, threads, clock, load))
    report(len(names), len(names))
    return EngineChoice(
        engine=_fastest(measured),
        device=_device(),
        processor=processor_name(),
        threads=threads or processor_threads(),
        images=len(examples),
        sizes=tuple(sorted({(e.stack.shape[-2], e.stack.shape[-1]) for e in examples})),
        measured=tuple(measured),
    )


def _tried(
    folder: Path,
    card: ModelCard,
    name: Measurable,
    examples: Sequence[Example],
    reference: Maps,
    threads: int | None,
    clock: Callable[[], float],
    load: Load,
) -> EngineMeasurement:
    reason = unavailable(folder, name)
    if reason is not None:
        return EngineMeasurement(engine=name, note=f"Not tried: {reason}.")
    try:
        maps, duration = _answers(card, load(folder, card, name, threads), examples, clock)
    except Exception as error:  # whatever ails an engine that is not needed, it is not chosen
        _log.warning("%s was tried for %s and failed", name, folder, exc_info=True)
        return EngineMeasurement(engine=name, note=f"Failed: {type(error).__name__}: {error}"[:300])
    return _judged(name, maps, reference, examples, card, duration)


def _answers(
    card: ModelCard, engine: Engine, examples: Sequence[Example], clock: Callable[[], float]
) -> tuple[Maps, float]:
    """Class maps of all examples, and the median time in ms, after one that does not count."""
    predictor = Predictor(card, engine)
    predictor.predict(examples[0].stack)
    maps: Maps = []
    durations = []
    for example in islice(cycle(examples), max(len(examples), _TIMINGS)):
        began = clock()
        found = predictor.predict(example.stack).class_map
        durations.append(1e3 * (clock() - began))
        if len(maps) < len(examples):
            maps.append(found)
    return maps, median(durations)


def _judged(
    name: Measurable,
    maps: Maps,
    reference: Maps,
    examples: Sequence[Example],
    card: ModelCard,
    milliseconds: float,
) -> EngineMeasurement:
    pixels = sum(one.size for one in reference)
    equal = sum(int((a == b).sum()) for a, b in zip(maps, reference, strict=True)) / pixels
    change = _iou_change(maps, reference, examples, card.spec.classes)
    eligible = equal >= LEAST_EQUAL and change <= MOST_IOU_CHANGE
    note = "" if eligible else "Its masks are not those of float32 torch."
    return EngineMeasurement(
        engine=name,
        milliseconds=round(milliseconds, 2),
        equal_pixels=equal,
        iou_change=round(change, 5),
        eligible=eligible,
        note=note,
    )


def _iou_change(maps: Maps, reference: Maps, examples: Sequence[Example], classes: int) -> float:
    """In points; over the classes that occur in the truth."""
    truths = [r if e.truth is None else e.truth for e, r in zip(examples, reference, strict=True)]
    ours, theirs = _iou(maps, truths, classes), _iou(reference, truths, classes)
    present = ~np.isnan(ours)
    return float(100 * np.abs(ours - theirs)[present].max(initial=0.0))


def _iou(maps: Maps, truths: Sequence[NDArray[np.uint8]], classes: int) -> NDArray[np.float64]:
    """Of each class over all images; nan for one that is in no truth."""
    counted = np.zeros((classes, classes))
    for found, truth in zip(maps, truths, strict=True):
        said = truth != UNSAID
        pairs = truth[said].astype(np.int64) * classes + found[said]
        counted += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    true, predicted, both = counted.sum(axis=1), counted.sum(axis=0), counted.diagonal()
    iou = np.full(classes, np.nan)
    np.divide(both, true + predicted - both, out=iou, where=true > 0)
    return iou


def _fastest(measured: Sequence[EngineMeasurement]) -> Measurable:
    """The base engine (ONNX Runtime, else torch), unless another is clearly faster."""
    durations = {m.engine: m.milliseconds for m in measured if m.eligible and m.milliseconds is not None}
    base: Measurable = "onnx" if "onnx" in durations else "torch"
    first = min(durations, key=lambda name: durations[name])
    return first if durations[first] < _LEAD * durations[base] else base


def _device() -> Any:
    from model_zoo.inference.torch_engine import device

    return device().type
