"""A manifest's sample as arrays: the stack of frames, and the truth that belongs to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from training.data.manifest import IGNORE_INDEX, Sample
from training.data.masks import read_mask
from training.data.micrograph import BadImage, read_micrograph

log = logging.getLogger(__name__)


class BadSample(SRPUError):
    """An image, its neighbouring frames and its mask that do not belong together."""


def read_stack(sample: Sample, depth: int) -> NDArray[Any]:
    """The image with its neighbours: uint8 or uint16 (depth, H, W), the image itself in the middle.

    A sample without neighbours is repeated. Raises `BadSample` where frames are too few, and `BadImage`
    where the image itself cannot be read.
    """
    frames = sample.frames if depth > 1 and sample.frames else (sample.image,) * depth
    surplus, odd = divmod(len(frames) - depth, 2)
    if surplus < 0 or odd:
        raise BadSample(
            f"{sample.key} lists {len(sample.frames)} frames, but the model looks at {depth} at a time; "
            "write the manifest anew for this input_depth."
        )
    return read_frames(frames[surplus : surplus + depth])


def read_frames(paths: Sequence[Path]) -> NDArray[Any]:
    """An odd number of frames as one stack, uint8 or uint16 (D, H, W); a repeated one is read once.

    For a neighbour that cannot be read, or differs from the middle frame in size or bit depth, the next one
    towards the middle stands in, with a warning in the log. Raises `BadImage` for the middle one.
    """
    reach = len(paths) // 2
    middle = read_micrograph(paths[reach])
    known = {paths[reach]: middle}
    before: list[NDArray[Any]] = []
    after: list[NDArray[Any]] = []
    for side, step in ((before, -1), (after, 1)):
        last = middle
        for offset in range(1, reach + 1):
            last = _frame(paths[reach + step * offset], known, middle, last)
            side.append(last)
    return np.stack([*reversed(before), middle, *after])


def _frame(
    path: Path, known: dict[Path, NDArray[Any]], middle: NDArray[Any], nearest: NDArray[Any]
) -> NDArray[Any]:
    """The frame at `path`, or `nearest` where it does not go with `middle`."""
    if path not in known:
        try:
            frame = read_micrograph(path)
        except BadImage as error:
            log.warning("The nearest frame stands in for one that cannot be read: %s", error)
            known[path] = nearest
            return nearest
        if (frame.shape, frame.dtype) != (middle.shape, middle.dtype):
            log.warning(
                "The nearest frame stands in for %s, which is %s %s, its neighbour %s %s",
                path, _size(frame), frame.dtype, _size(middle), middle.dtype,
            )  # fmt: skip
            frame = nearest
        known[path] = frame
    return known[path]


def read_truth(sample: Sample, shape: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """The mask of a labelled sample: uint8 (H, W), class index or 255.

    `shape` is the image's (H, W). Raises `BadSample` for a mask of another size, or with an index that is not
    in 0 … classes − 1; `BadMask` where it cannot be read.
    """
    if sample.mask is None:
        raise BadSample(f"{sample.key} has no mask; only labelled samples can be learnt from or judged on.")
    mask: NDArray[np.uint8] = read_mask(sample.mask)
    if mask.shape != shape:
        raise BadSample(
            f"The mask {sample.mask} is {_size(mask)} px, its image {sample.image} is "
            f"{shape[1]} × {shape[0]} px; save the mask at the size of the image."
        )
    strays = mask[(mask >= classes) & (mask != IGNORE_INDEX)]
    if strays.size:
        raise BadSample(
            f"The mask {sample.mask} holds the index {int(strays.max())}, but there are {classes} classes: "
            f"0 to {classes - 1}, and 255 for ignore."
        )
    return mask


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[-1]} × {array.shape[-2]}"
