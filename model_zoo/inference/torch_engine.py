"""torch as an engine: on CUDA where there is a device, else on the CPU; channels-last on both."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model_zoo.store import load_model

Precision = Literal["torch", "torch-bf16", "torch-fp16"]
_TYPES = {"torch": torch.float32, "torch-bf16": torch.bfloat16, "torch-fp16": torch.float16}


def device() -> torch.device:
    """Where networks run on this machine."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TorchEngine:
    """The network itself; 16 bits are for convolutions and products, sums and norms stay float32 (autocast).

    `threads` sets torch's thread number, which the whole process shares.
    """

    def __init__(self, folder: Path, threads: int | None = None, precision: Precision = "torch") -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.name: str = precision
        self._type = _TYPES[precision]
        self._device = device()
        model = load_model(folder).to(self._device)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch = 8 if self._device.type == "cuda" else 1

    @torch.inference_mode()
    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(images))
        batch = batch.to(self._device, memory_format=torch.channels_last)
        with torch.autocast(self._device.type, self._type, enabled=self._type != torch.float32):
            found = self._model(batch)
        answer: NDArray[np.float32] = found.float().cpu().numpy()
        return answer
