"""State dicts as they lie on disk; nothing in such a file is ever run."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model_zoo.errors import WeightsUnavailable

_READ_ERRORS = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
)


def read_state(path: Path) -> tuple[dict[str, Tensor], bool]:
    """State dict of a file, and whether its input channels are known to be frames, not colours.

    Safetensors are told by their suffix; all else is read by torch with `weights_only=True`. Raises
    `WeightsUnavailable`.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                metadata = file.metadata() or {}
                return {name: file.get_tensor(name) for name in file.keys()}, "input_depth" in metadata  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _READ_ERRORS as error:
        raise WeightsUnavailable(
            f"{path} cannot be read as weights: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise WeightsUnavailable(f"{path} holds no state dict; save `encoder.state_dict()` as .safetensors.")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}, False
