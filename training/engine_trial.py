"""The images of a manifest that a model's engines are tried on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, ModelCard
from model_zoo.errors import SRPUError
from model_zoo.inference.choice import UNSAID, Example
from training.data.manifest import IGNORE_INDEX, Manifest, Part, Sample
from training.data.samples import read_stack, read_truth

log = logging.getLogger(__name__)

MOST_PIXELS = 64 * 2**20
"""Of all images together: they are held at once, and each is segmented by every engine."""


class NothingToTry(SRPUError):
    """A part of a manifest without an image that can be read."""


def examples_of(manifest: Manifest, part: Part, card: ModelCard, most: int) -> list[Example]:
    """Up to `most` images, evenly over the part, labelled ones where there are any.

    One that cannot be read is left out and logged. Raises `NothingToTry`.
    """
    table = truth_table(manifest.classes, card)
    found: list[Example] = []
    pixels = 0
    for sample in _spread(manifest, part, most):
        try:
            example = _example(sample, card, table, len(manifest.classes))
        except SRPUError as error:
            log.warning("%s is left out: %s", sample.key, error)
            continue
        pixels += example.stack[0].size
        if found and pixels > MOST_PIXELS:
            break
        found.append(example)
    if not found:
        raise NothingToTry(
            f"The manifest's part {part} has no image that can be read; name another with --part."
        )
    return found


def truth_table(classes: Sequence[ClassInfo], card: ModelCard) -> NDArray[np.uint8]:
    """The model's index of each of the manifest's classes, by name; 255 for one it does not know: (256,)."""
    places = {info.name: index for index, info in enumerate(card.classes)}
    table = np.full(IGNORE_INDEX + 1, UNSAID, np.uint8)
    table[: len(classes)] = [places.get(info.name, UNSAID) for info in classes]
    return table


def _spread(manifest: Manifest, part: Part, most: int) -> list[Sample]:
    samples = manifest.of(part)
    labelled = [sample for sample in samples if sample.mask is not None] or list(samples)
    places = np.linspace(0, len(labelled) - 1, min(most, len(labelled))).round().astype(int)
    return [labelled[place] for place in places]


def _example(sample: Sample, card: ModelCard, table: NDArray[np.uint8], classes: int) -> Example:
    stack = read_stack(sample, card.spec.input_depth)
    if sample.mask is None:
        return Example(stack)
    height, width = stack.shape[1:]
    return Example(stack, table[read_truth(sample, (height, width), classes)])
