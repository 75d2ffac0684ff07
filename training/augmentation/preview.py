"""A contact sheet of augmented crops, to be looked at before a training: is this still a micrograph?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from training.augmentation.augmenter import Augmenter
from training.augmentation.config import Augmentation, Probabilities
from training.augmentation.copy_paste import CopyPaste
from training.data.dataset import LabelledImage, LabelledImages, Window, magnification, resized
from training.data.manifest import IGNORE_INDEX, Sample
from training.overlays import class_colors, clear_classes

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

_GAP = 4  # px between pictures
_LABEL_HEIGHT = 18  # px above a row that has a name
_OPACITY = 0.4
_STRIPES = 8  # px between the stripes over what is ignored
_PAPER = (255, 255, 255)
ALONE = ("orientation", "scale", *Probabilities.model_fields)
"""The changes that `changes_alone` knows, beside those of `augmentation.more`."""


class NoPreview(SRPUError):
    """There is nothing to be drawn, or nowhere to put it."""


@dataclass(frozen=True)
class Row:
    """One line of the sheet."""

    name: str
    pictures: tuple[Picture, ...]


def rows_of(
    images: LabelledImages,
    classes: Sequence[ClassInfo],
    config: Augmentation,
    crop: int,
    columns: int,
    seed: int,
) -> Iterator[Row]:
    """A row for each image: a crop as it is, its classes tinted, and `columns` − 1 changes of it."""
    paste = CopyPaste(images.images, images.pixel_counts, config, crop // 2)
    for number, image in enumerate(images.images):
        yield _row(image.key, image, classes, (config, paste), crop, columns, [seed, number])


def changes_alone(
    images: LabelledImages,
    classes: Sequence[ClassInfo],
    config: Augmentation,
    crop: int,
    columns: int,
    seed: int,
) -> Iterator[Row]:
    """A row for each change that `config` has any strength for, always happening, nothing else with it."""
    for number, name in enumerate((*ALONE, *config.more)):
        only = alone(config, name)
        if only is None:
            continue
        paste = CopyPaste(images.images, images.pixel_counts, only, crop // 2)
        image = images.images[number % len(images.images)]
        yield _row(name.replace("_", " "), image, classes, (only, paste), crop, columns, [seed, number])


def alone(config: Augmentation, name: str) -> Augmentation | None:
    """`config` with nothing but the change of that name, which always happens; None: it is off."""
    if not config.enabled:
        return None
    chances = {field: float(field == name) for field in Probabilities.model_fields}
    only = config.model_copy(
        update={
            "orientation": config.orientation and name == "orientation",
            "scale": config.scale if name == "scale" else (1.0, 1.0),
            "probability": 1.0,
            "probabilities": Probabilities(**chances),
            "more": {name: {**config.more[name], "p": 1}} if name in config.more else {},
        }
    )
    happens = only.more or only.orientation or only.scale != (1.0, 1.0) or any(map(only.chance, chances))
    return only if happens else None


def sheet(rows: Sequence[Row]) -> Picture:
    """All rows below each other, each under its name: uint8 RGB (H, W, 3). Raises `NoPreview`."""
    if not rows:
        raise NoPreview(
            "There is nothing to draw: no labelled image of the part `train` can be read, or every change is "
            "switched off; see the warnings, and `augmentation` in the settings."
        )
    lines = []
    for row in rows:
        strip = np.concatenate([_framed(picture) for picture in row.pictures], axis=1)
        lines += [_label(row.name, strip.shape[1]), strip]
    return np.concatenate(lines)


def spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` of the labelled ones, evenly spread: neighbours are often of one specimen."""
    labelled = [sample for sample in samples if sample.mask is not None]
    places = np.linspace(0, len(labelled) - 1, min(count, len(labelled)))
    return [labelled[place] for place in np.rint(places).astype(int)]


def write_picture(path: Path, picture: Picture) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, atomically; raises `NoPreview`."""
    if path.suffix.casefold() != ".png":
        raise NoPreview(f"{path} is to be a PNG; let its name end in .png.")
    data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise NoPreview(f"{path} cannot be written ({error.strerror}); choose another --out.") from None


def _row(
    name: str,
    image: LabelledImage,
    classes: Sequence[ClassInfo],
    how: tuple[Augmentation, CopyPaste],
    crop: int,
    columns: int,
    seed: Sequence[int],
) -> Row:
    rng = np.random.default_rng(seed)
    centre = image.pixel_of(int(rng.choice(np.flatnonzero(image.counts))), rng)
    place = Window.around(image, centre, crop, rng)
    middle = place.top + crop // 2, place.left + crop // 2
    pictures = [_tinted(*place.cut(image), classes)]
    for _ in range(columns - 1):
        pictures.append(_outlined(*_changed(image, middle, how, crop, rng), classes))
    return Row(name, tuple(pictures))


def _changed(
    image: LabelledImage,
    middle: tuple[int, int],
    how: tuple[Augmentation, CopyPaste],
    crop: int,
    rng: np.random.Generator,
) -> tuple[Floats, Mask]:
    """As the stream of crops does it, but about one place."""
    config, paste = how
    side = round(crop / magnification(config, rng))
    window = Window(middle[0] - side // 2, middle[1] - side // 2, side)
    pixels, truth = paste(*window.cut(image), image, rng)
    return Augmenter(config)(*resized(pixels, truth, crop), int(rng.integers(2**31)))


def _tinted(pixels: Floats, truth: Mask, classes: Sequence[ClassInfo]) -> Picture:
    picture = _grey(pixels, truth)
    colors = class_colors(classes)
    for index in np.flatnonzero(~clear_classes(classes)):
        where = truth == index
        picture[where] = (1 - _OPACITY) * picture[where] + _OPACITY * colors[index]
    return picture


def _outlined(pixels: Floats, truth: Mask, classes: Sequence[ClassInfo]) -> Picture:
    picture = _grey(pixels, truth)
    colors = class_colors(classes)
    for index in np.flatnonzero(~clear_classes(classes)):
        region = np.equal(truth, index).view(np.uint8)
        picture[(region - cv2.erode(region, np.ones((3, 3), np.uint8))) > 0] = colors[index]
    return picture


def _grey(pixels: Floats, truth: Mask) -> Picture:
    """The middle frame as the network gets it, never stretched; what is ignored is striped."""
    grey = np.rint(pixels[len(pixels) // 2] * 255).astype(np.uint8)
    rows, columns = np.indices(truth.shape, sparse=True)
    grey[(truth == IGNORE_INDEX) & ((rows + columns) % _STRIPES == 0)] = 160
    return np.repeat(grey[..., None], 3, axis=2)


def _framed(picture: Picture) -> Picture:
    framed = cv2.copyMakeBorder(picture, 0, _GAP, 0, _GAP, cv2.BORDER_CONSTANT, value=_PAPER)
    return np.asarray(framed, np.uint8)


def _label(text: str, width: int) -> Picture:
    strip = np.full((_LABEL_HEIGHT, width, 3), _PAPER, np.uint8)
    ascii_text = text.encode("ascii", "replace").decode()  # all that OpenCV can write
    cv2.putText(strip, ascii_text, (2, _LABEL_HEIGHT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, 16)
    return strip
