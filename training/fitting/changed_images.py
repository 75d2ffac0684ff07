"""Images changed as an augmentation says, once, to be looked at again and again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from model_zoo.card import Normalisation
from model_zoo.files import write_atomically
from training.augmentation.augmenter import Augmenter
from training.config import TrainingConfig
from training.data.dataset import LabelledImages
from training.data.manifest import Manifest, Sample
from training.data.masks import write_mask

_LEVELS = 65535


def write_changed(manifest: Manifest, config: TrainingConfig, folder: Path) -> Manifest:
    """Every sample of `manifest` that can be read, normalised and changed by `validation_augmentation`, as
    16-bit PNGs and masks in `folder`; to be read with the normalisation of `as_written`.

    The change of a sample depends on `config.seed` and on its place in the manifest.
    """
    augment = Augmenter(config.validation_augmentation)
    images = LabelledImages.load(manifest.samples, len(manifest.classes), config, folder / "decoded")
    samples = {sample.key: sample for sample in manifest.samples}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for place, image in enumerate(images.images):
        seed = int(np.random.default_rng([config.seed, place]).integers(2**31))
        pixels = image.pixels.astype(np.float32) / np.float32(_LEVELS)
        changed, truth = augment(pixels, np.array(image.truth), seed)
        frames = []
        for number, frame in enumerate(changed):
            frames.append(folder / f"{place}-{number}.png")
            _, content = cv2.imencode(".png", np.rint(frame * _LEVELS).astype(np.uint16))
            write_atomically(frames[-1], content.tobytes(), durable=False)
        mask = folder / f"{place}-mask.png"
        write_mask(mask, truth, manifest.classes)
        written.append(_sample(samples[image.key], frames, mask))
    return manifest.model_copy(update={"samples": tuple(written)})


def as_written(how: Normalisation) -> Normalisation:
    """How images of `write_changed` become network input: they are normalised already, but for mean and
    deviation."""
    return how.model_copy(update={"kind": "range", "info_bar": "keep"})


def _sample(sample: Sample, frames: list[Path], mask: Path) -> Sample:
    middle = frames[len(frames) // 2]
    several = tuple(frames) if len(frames) > 1 else ()
    return sample.model_copy(update={"image": middle, "mask": mask, "frames": several})
