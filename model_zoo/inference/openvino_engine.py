"""OpenVINO as an engine, of the ONNX file: optional, `pip install openvino`. For x86 and ARM processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ModelCard
from model_zoo.errors import BrokenModel
from model_zoo.inference.engines import check_channels, onnx_file

try:
    import openvino
except ImportError:
    openvino = None


class OpenVinoEngine:
    """The precision is always said: left to itself, OpenVINO computes with bfloat16 where it can."""

    batch = 1

    def __init__(
        self,
        folder: Path,
        card: ModelCard,
        threads: int | None = None,
        precision: Literal["f32", "bf16"] = "f32",
    ) -> None:
        if openvino is None:
            raise BrokenModel("The engine openvino needs its package: pip install openvino.")
        path = onnx_file(folder)
        self.name = "openvino" if precision == "f32" else "openvino-bf16"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise BrokenModel(f"{path} cannot be loaded by OpenVINO: {str(error).splitlines()[0]}") from error
        ports = self._compiled.input(0), self._compiled.output(0)
        check_channels(path, card, *(port.partial_shape[1].get_length() for port in ports))

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        # A request of one's own: threads share none, and memory of the largest image is handed back.
        answers = self._compiled.create_infer_request().infer({0: images})
        return np.asarray(answers[0], dtype=np.float32)
