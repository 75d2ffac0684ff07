"""A model over folders of micrographs: a mask for each image, on disk, in bounded memory."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray
from pydantic import Field, ValidationError

from model_zoo.card import STATE_NAME, ClassInfo, Frozen, ModelCard
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from model_zoo.inference import Band, Predictor, most_probable
from model_zoo.inference.engine_record import EngineName
from model_zoo.integrity import sha256_of
from training.data.manifest import Sample
from training.data.masks import write_mask
from training.data.micrograph import BadImage
from training.data.samples import read_stack
from training.overlays import overlay
from training.predicting.files import OVERLAYS, PROBABILITIES, Report, list_images, mask_path, samples_of

JOURNAL_NAME = "predictions.jsonl"
CLASSES_NAME = "classes.json"
_LONGEST_OVERLAY = 4096  # px: it is there to be looked at, and drawn in float32
_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")


class NothingPredicted(SRPUError):
    """No image that could be read."""


class Bands(Protocol):
    """The part of `model_zoo.inference.Predictor` that is needed here."""

    card: ModelCard

    def bands(self, stack: NDArray[Any]) -> Any:
        """An iterator of `Band`."""


@dataclass(frozen=True)
class PredictionOptions:
    """What is to be left in `out`."""

    out: Path
    overlays: bool = False
    probabilities: bool = False
    resume: bool = False
    """Images that the same model has predicted here are not predicted again."""
    pattern: re.Pattern[str] | None = None
    """Of sequence and frame in names, for models that look at several frames."""


class Predicted(Frozen):
    """A line of the journal: one image, and what it was made from."""

    name: str
    image: str
    model: str
    """sha256 of the weights."""
    size: int
    modified: int
    """Bytes and time (ns) of the image file: a changed image is predicted again."""
    pixels: dict[str, int]
    """Of each class, by name."""


class PredictionSummary(Frozen):
    """What came out; what `--json` prints."""

    out: str
    model: str
    """The version; its folder where it has none."""
    images: int
    """With a mask in `out`, among them those of earlier."""
    resumed: int
    """Of them, those that were there already."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Images without a mask, and why."""
    seconds: float
    classes: dict[str, float]
    """Share of each class in the area of all images, in [0, 1]."""


def predict_images(
    predictor: Bands,
    identity: str,
    sources: Sequence[Path],
    options: PredictionOptions,
    clock: Callable[[], float],
    report: Report = lambda what, done, total: None,
) -> PredictionSummary:
    """Write a mask for each image below `sources`, and what else `options` ask for.

    `identity` is the sha256 of the model's weights, `clock` counts seconds. An image that cannot be read is
    left out and named in the summary. Raises `NothingPredicted` when none could be read, `BadFolder` when
    there is none, `BadOutput` when results would overwrite images.
    """
    began = clock()
    card = predictor.card
    images = list_images(sources, options.out)
    samples = samples_of(images, card.spec.input_depth, options.pattern)
    options.out.mkdir(parents=True, exist_ok=True)
    _write_classes(options.out, card.classes)
    known = _read_journal(options.out / JOURNAL_NAME) if options.resume else {}
    done: list[Predicted] = []
    resumed, left_out = 0, {}
    with (options.out / JOURNAL_NAME).open("a" if known else "w", encoding="utf-8") as journal:
        for count, (sample, problem) in enumerate(samples):
            report("predicting", count, len(samples))
            earlier = known.get(sample.key)
            if earlier is not None and _is_done(earlier, sample, identity, options):
                done.append(earlier)
                resumed += 1
                continue
            try:
                if problem is not None:
                    raise BadImage(problem)
                done.append(_predict(predictor, identity, sample, options))
            except (SRPUError, MemoryError) as error:
                left_out[str(sample.image)] = str(error) or "There is not enough memory for it."
                continue
            _append(journal, done[-1])
        report("predicting", len(samples), len(samples))
    if not done:
        raise NothingPredicted(
            f"None of {len(samples)} images could be predicted; the first: {next(iter(left_out.values()))}"
        )
    return PredictionSummary(
        out=str(options.out),
        model=card.version or identity[:12],
        images=len(done),
        resumed=resumed,
        left_out=left_out,
        seconds=round(clock() - began, 3),
        classes=_shares(done, card.classes),
    )


def predict_with(
    folder: Path,
    sources: Sequence[Path],
    options: PredictionOptions,
    report: Report = lambda what, done, total: None,
    engine: EngineName = "auto",
    threads: int | None = None,
    mirrored: bool = False,
) -> PredictionSummary:
    """`predict_images` with the model of a folder; raises `BrokenModel`, too."""
    predictor = Predictor.load(folder, engine, threads, mirrored)
    identity = predictor.card.files.get(STATE_NAME) or sha256_of(folder / STATE_NAME)
    identity += "-mirrored" if mirrored else ""
    return predict_images(predictor, identity, sources, options, time.monotonic, report)


def _predict(predictor: Bands, identity: str, sample: Sample, options: PredictionOptions) -> Predicted:
    card = predictor.card
    stack = read_stack(sample, card.spec.input_depth)
    class_map, maps = _answer(predictor, stack, options.probabilities)
    path = mask_path(options.out, sample.key)
    if maps is not None:
        _write_probabilities(options.out / PROBABILITIES / sample.key, maps, card.classes)
    if options.overlays:
        _write_overlay(
            mask_path(options.out / OVERLAYS, sample.key), stack[len(stack) // 2], class_map, card.classes
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, class_map, card.classes)  # last: with it, all is there
    counts = np.bincount(class_map.reshape(-1), minlength=len(card.classes))
    return Predicted(
        name=sample.key,
        image=str(sample.image),
        model=identity,
        **_stamp(sample.image),
        pixels={info.name: int(count) for info, count in zip(card.classes, counts, strict=False)},
    )


def _answer(
    predictor: Bands, stack: NDArray[Any], with_probabilities: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Class map (H, W), and probabilities times 255 (C, H, W), a byte each, where they are asked for."""
    class_map = np.empty(stack.shape[1:], dtype=np.uint8)
    classes = predictor.card.spec.classes
    maps = np.empty((classes, *stack.shape[1:]), dtype=np.uint8) if with_probabilities else None
    band: Band
    for band in predictor.bands(stack):
        class_map[band.rows] = most_probable(band.probabilities)
        if maps is not None:
            maps[:, band.rows] = (band.probabilities * 255 + 0.5).astype(np.uint8)
    return class_map, maps


def _write_probabilities(folder: Path, maps: NDArray[np.uint8], classes: Sequence[ClassInfo]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, (values, info) in enumerate(zip(maps, classes, strict=True)):
        _write_png(folder / f"{index}-{_NOT_IN_NAMES.sub('_', info.name)}.png", values)


def _write_overlay(
    path: Path, image: NDArray[Any], class_map: NDArray[np.uint8], classes: Sequence[ClassInfo]
) -> None:
    longest = max(class_map.shape)
    if longest > _LONGEST_OVERLAY:
        height, width = (max(1, side * _LONGEST_OVERLAY // longest) for side in class_map.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        shrunk = cv2.resize(class_map, (width, height), interpolation=cv2.INTER_NEAREST)
        class_map = np.asarray(shrunk, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_png(path, overlay(image, class_map, classes))


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    fromarray(pixels).save(buffer, "PNG", compress_level=3)
    write_atomically(path, buffer.getvalue(), durable=False)


def _write_classes(out: Path, classes: Sequence[ClassInfo]) -> None:
    """As `read_classes` takes it, so that masks are never without their meaning; a file of others stays."""
    path = out / CLASSES_NAME
    if path.exists() and not (out / JOURNAL_NAME).exists():
        return
    entries = [{"index": index, "name": info.name, "color": info.color} for index, info in enumerate(classes)]
    write_atomically(path, json.dumps({"classes": entries}, indent=1, ensure_ascii=False).encode())


def _read_journal(path: Path) -> dict[str, Predicted]:
    """What was predicted, by name, the last line counting; one torn by a crash is passed over."""
    known = {}
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry = Predicted.model_validate_json(line)
        except ValidationError:
            continue
        known[entry.name] = entry
    return known


def _append(journal: IO[str], entry: Predicted) -> None:
    journal.write(entry.model_dump_json() + "\n")
    journal.flush()


def _is_done(entry: Predicted, sample: Sample, identity: str, options: PredictionOptions) -> bool:
    wanted = [mask_path(options.out, sample.key)]
    wanted += [mask_path(options.out / OVERLAYS, sample.key)] if options.overlays else []
    wanted += [options.out / PROBABILITIES / sample.key] if options.probabilities else []
    stamp = {"size": entry.size, "modified": entry.modified}
    return (
        entry.model == identity
        and entry.image == str(sample.image)
        and all(path.exists() for path in wanted)
        and sample.image.is_file()
        and stamp == _stamp(sample.image)
    )


def _stamp(image: Path) -> dict[str, int]:
    status = image.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns}


def _shares(done: Sequence[Predicted], classes: Sequence[ClassInfo]) -> dict[str, float]:
    pixels = {info.name: sum(entry.pixels.get(info.name, 0) for entry in done) for info in classes}
    total = sum(pixels.values()) or 1
    return {name: count / total for name, count in pixels.items()}
