"""torch as an engine: on CUDA where there is a device, else channels-last on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model_zoo.store import load_model


class TorchEngine:
    """The network itself. `threads` sets torch's thread number, which the whole process shares."""

    name = "torch"

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model(folder).to(self._device)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch = 8 if self._device.type == "cuda" else 1

    @torch.inference_mode()
    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(images))
        batch = batch.to(self._device, memory_format=torch.channels_last)
        answer: NDArray[np.float32] = self._model(batch).float().cpu().numpy()
        return answer
