"""Transforms of albumentations by name, as the setting `augmentation.more` asks for them.

Each frame goes in as a grey image of one channel, with the same random numbers: as channels of one image,
three frames would be taken for a colour. What cannot work on such crops, changes their size or invents labels
is refused when the settings are read: each transform is tried on a small picture.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray

from model_zoo.errors import SRPUError
from training.data.manifest import IGNORE_INDEX

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]
_TRIAL_SIDES = (64, 96)  # px; two, for a transform that makes crops of one size
_TRIAL_SEEDS = range(3)
_TRIAL_LABELS = (3, 7)  # not 0: it is what albumentations fills masks with
_ROUNDING = 1e-3
_WHAT_MASKS_GET = {
    "fill_mask": IGNORE_INDEX,
    "mask_interpolation": 0,
    "mask_drop_value": None,  # it falls on other pixels than the image's
}
_KINDS = (albumentations.ImageOnlyTransform, albumentations.DualTransform)


class UnusableTransform(SRPUError):
    """A transform of albumentations that does not work on the crops of this training."""


class LibraryTransform:
    """One transform of albumentations, applied to a stack and its truth with random numbers from outside."""

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Raises ValueError, whose text is a clause that names the setting, where `check` would."""
        self.name = name
        self._transform = _built(name, arguments)

    def __call__(self, stack: Floats, truth: Mask, rng: np.random.Generator) -> tuple[Floats, Mask]:
        """Change (D, H, W) in [0, 1] and (H, W) alike, with its own probability `p`.

        Intensities are clipped to [0, 1]. Raises `UnusableTransform`.
        """
        plain = random.Random(int(rng.integers(2**63)))  # noqa: S311  (no secret)
        self._transform.set_random_state(rng, plain)
        try:
            found = self._transform(images=stack[..., None], mask=truth)
        except Exception as error:  # whatever OpenCV, scipy or the transform itself says of this crop
            raise UnusableTransform(
                f"`more.{self.name}` of the augmentation fails on a crop of {truth.shape[1]} × "
                f"{truth.shape[0]} px ({_reason(error)}); change its arguments, or leave it out."
            ) from error
        frames = np.clip(found["images"][..., 0], 0, 1)
        return np.ascontiguousarray(frames), np.ascontiguousarray(found["mask"])

    def raw(self, stack: Floats, truth: Mask, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """As albumentations returns (D, H, W, 1) and (H, W), always happening, with whatever it raises."""
        self._transform.set_random_seed(seed)
        found = self._transform(images=stack[..., None], mask=truth, force_apply=True)
        return np.asarray(found["images"]), np.asarray(found["mask"])


def check(more: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError, a clause that names the setting, for the first transform that cannot be used."""
    for name, arguments in more.items():
        try:
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(
                f"`more.{name}` must consist of finite numbers, texts and lists, as a model's card holds them"
            ) from None
        LibraryTransform(name, arguments)
        problem = _problem(LibraryTransform(name, {**arguments, "p": 1}))
        if problem:
            raise ValueError(f"`more.{name}` cannot be used: {problem}")


def _built(name: str, arguments: Mapping[str, Any]) -> Any:
    transform = _class_of(name)
    known = inspect.signature(transform).parameters
    unknown = [argument for argument in arguments if argument not in known or argument == "strict"]
    if unknown:
        close = get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`" if close else f"it takes {', '.join(known)}"
        raise ValueError(f"`more.{name}` takes no `{unknown[0]}`; {hint}")
    for argument, value in _WHAT_MASKS_GET.items():
        if arguments.get(argument, value) not in (value, None):
            raise ValueError(
                f"`more.{name}.{argument}` must be {json.dumps(value)}, so that labels stay exact and what "
                "is unknown is ignored; leave it out"
            )
    fixed = {argument: value for argument, value in _WHAT_MASKS_GET.items() if argument in known}
    # Else values that its schema cannot judge become the defaults, with a warning; some have no schema.
    strict = {"strict": True} if "InitSchema" in vars(transform) else {}
    try:
        return transform(**{**fixed, **arguments, **strict})
    except Exception as error:  # of a library: ValueError, TypeError, NotImplementedError, …
        raise ValueError(f"`more.{name}` is not accepted by albumentations: {_reason(error)}") from None


def _class_of(name: str) -> Any:
    usable = {
        key
        for key, value in vars(albumentations).items()
        if isinstance(value, type)
        and issubclass(value, _KINDS)
        and value not in _KINDS
        and not issubclass(value, albumentations.Transform3D)
    }
    if name in usable:
        return getattr(albumentations, name)
    folded = {key.casefold(): key for key in usable}
    close = get_close_matches(name.casefold(), folded, n=1)
    hint = f"did you mean `{folded[close[0]]}`" if close else "see albumentations.ai/docs for their names"
    raise ValueError(f"`more.{name}` is no transform of images in albumentations; {hint}")


def _problem(transform: LibraryTransform) -> str:
    """Why crops cannot go through it, as a clause; empty where they can."""
    changed = False
    for side in _TRIAL_SIDES:
        stack, truth = _trial_crop(side)
        for seed in _TRIAL_SEEDS:
            try:
                frames, mask = transform.raw(stack.copy(), truth.copy(), seed)
            except Exception as error:
                reason = _reason(error)
                if "3-channel" in reason or "one channel" in reason:
                    return "it needs the channels of a colour; frames are grey"
                return f"it fails on a grey float32 image in [0, 1] with a mask, saying: {reason}"
            problem = _difference(stack, frames, mask)
            if problem:
                return problem
            changed |= not (np.array_equal(frames[..., 0], stack) and np.array_equal(mask, truth))
    return "" if changed else "with these arguments it changes nothing in a grey image"


def _difference(stack: Floats, frames: NDArray[Any], mask: NDArray[Any]) -> str:
    if frames.shape[1:3] != stack.shape[1:] or mask.shape != stack.shape[1:]:
        return "it changes the size of a crop; `crop` and `augmentation.scale` set that"
    if frames.shape != (*stack.shape, 1):
        return "it changes the number of channels; frames are grey"
    if frames.dtype != np.float32 or mask.dtype != np.uint8:
        return f"it makes {frames.dtype} of float32 intensities"
    if not (frames.min() >= -_ROUNDING and frames.max() <= 1 + _ROUNDING):
        return "it takes intensities out of [0, 1]; `normalisation` comes after the augmentation"
    if not np.isin(mask, (*_TRIAL_LABELS, IGNORE_INDEX)).all():
        return "it writes labels into the mask that were not there"
    return ""


def _trial_crop(side: int) -> tuple[Floats, Mask]:
    """A stack of two alike, waves from 0.2 to 0.8, and a mask of two labels with a strip of ignored."""
    rows, columns = np.indices((side, side), dtype=np.float32)
    wave = 0.5 + 0.15 * (np.sin(rows / 3) + np.cos(columns / 5))
    truth = np.full((side, side), _TRIAL_LABELS[0], np.uint8)
    truth[side // 3 : side // 2, side // 4 : side // 2] = _TRIAL_LABELS[1]
    truth[:4] = IGNORE_INDEX
    return np.stack([wave, wave]).astype(np.float32), truth


def _reason(error: BaseException) -> str:
    """What an error of the library says, on one line and without an end."""
    cause = error.__cause__
    if cause is not None and hasattr(cause, "errors"):  # pydantic's, turned into text by albumentations
        first = cause.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg'].removeprefix('Value error, ')}".lstrip(": ").rstrip(".")
    if isinstance(error, KeyError):
        return f"there is no {error}"
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__
