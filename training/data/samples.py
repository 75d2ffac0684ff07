"""A manifest's sample as arrays: the stack of frames, and the truth that belongs to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from training.data.manifest import IGNORE_INDEX, Sample
from training.data.masks import read_mask
from training.data.micrograph import read_micrograph


class BadSample(SRPUError):
    """An image, its neighbouring frames and its mask that do not belong together."""


def read_stack(sample: Sample, depth: int) -> NDArray[Any]:
    """The image with its neighbours: uint8 or uint16 (depth, H, W), the image itself in the middle.

    A sample without neighbours is repeated. Raises `BadSample` where frames differ in size or bit depth or
    are too few, and `BadImage` where one cannot be read.
    """
    if depth == 1 or not sample.frames:
        return np.repeat(read_micrograph(sample.image)[None], depth, axis=0)
    surplus, odd = divmod(len(sample.frames) - depth, 2)
    if surplus < 0 or odd:
        raise BadSample(
            f"{sample.key} lists {len(sample.frames)} frames, but the model looks at {depth} at a time; "
            "write the manifest anew for this input_depth."
        )
    frames = [read_micrograph(path) for path in sample.frames[surplus : surplus + depth]]
    for path, frame in zip(sample.frames[surplus:], frames, strict=False):
        if (frame.shape, frame.dtype) != (frames[0].shape, frames[0].dtype):
            raise BadSample(
                f"Frame {path} of {sample.key} is {_size(frame)} {frame.dtype}, its neighbour "
                f"{_size(frames[0])} {frames[0].dtype}; frames of one sequence must be alike."
            )
    return np.stack(frames)


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
