"""The names people use for encoders and decoders. Importing it imports no torch.

What is compared is letters and digits alone, so that `DeepLabV3+`, `deeplab_v3_plus` and `deeplabv3plus`
are one; what follows is stored under one name only, in specs and cards.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

NAMED_ENCODERS: Mapping[str, str] = {
    "unet": "unet",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    **{f"efficientnet-b{size}": f"efficientnet-b{size}" for size in range(5)},
    "mobilenet_v2": "mobilenet_v2",
    "dinov2-small": "tu-vit_small_patch14_dinov2",
    "dinov2-base": "tu-vit_base_patch14_dinov2",
    "dinov3-small": "tu-vit_small_patch16_dinov3",
    "dinov3-base": "tu-vit_base_patch16_dinov3",
}
"""The encoders this project names and tests, and what smp calls them."""

DECODER_NAMES = ("unet", "unetplusplus", "fpn", "deeplabv3plus", "dpt")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower().replace("+", "plus") if letter.isalnum())


_ENCODERS = {_plain(name): smp_name for name, smp_name in NAMED_ENCODERS.items()}
_DECODERS = {_plain(name): name for name in DECODER_NAMES}


def encoder_name(asked: str) -> str:
    """`dinov2-small` → `tu-vit_small_patch14_dinov2`, `ResNet34` → `resnet34`; other names as they are."""
    return _ENCODERS.get(_plain(asked), asked.strip())


def decoder_name(asked: str) -> str:
    """`DeepLabV3+` → `deeplabv3plus`, `U-Net++` → `unetplusplus`; other names as they are."""
    return _DECODERS.get(_plain(asked), asked.strip())


def suggestion(asked: str, names: Iterable[str]) -> str:
    """` Did you mean resnet34?`, or nothing where no name is like it."""
    plain = {_plain(name): name for name in names}
    asked = _plain(asked)
    close = [name for name in plain if len(asked) > 3 and name.startswith(asked)][:1]
    close = close or difflib.get_close_matches(asked, plain, n=3, cutoff=0.75)
    return f" Did you mean {' or '.join(plain[name] for name in close)}?" if close else ""
