"""What runs the network: ONNX Runtime unless something else was measured to be faster and as right.

Optional engines are there when their package is: OpenVINO with `pip install openvino`. See `choice` for how
one is chosen, and docs/serving.md.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ONNX_NAME, STATE_NAME, ModelCard
from model_zoo.errors import BrokenModel
from model_zoo.inference.engine_record import EngineChoice, EngineName, Measurable
from model_zoo.inference.processor import computes_bfloat16

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network ready to answer; safe to call from several threads."""

    name: str
    batch: int
    """Tiles that are fed at once."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D, H, W) normalised, H and W multiples of the stride → (N, C, H, W)."""


def load_engine(folder: Path, card: ModelCard, engine: EngineName, threads: int | None) -> Engine:
    """`auto` takes the engine the card's choice names, where it runs here; else ONNX Runtime, or torch
    when there is no ONNX file. Raises `BrokenModel`."""
    if engine != "auto":
        return _load(folder, card, engine, threads)
    chosen = EngineChoice.of(card)
    if chosen is not None:
        reason = unavailable(folder, chosen.engine) or _elsewhere(chosen)
        if reason is None:
            try:
                return _load(folder, card, chosen.engine, threads)
            except BrokenModel as error:
                reason = str(error)
        _log.warning("%s is not served by %s, which was chosen for it: %s", folder, chosen.engine, reason)
    return _load(folder, card, "onnx" if (folder / ONNX_NAME).is_file() else "torch", threads)


def unavailable(folder: Path, engine: Measurable) -> str | None:
    """Why an engine cannot serve this model on this machine; None where it can."""
    package = engine.partition("-")[0]
    if package in ("onnx", "openvino") and not (folder / ONNX_NAME).is_file():
        return f"{folder} has no {ONNX_NAME}"
    if package != "onnx" and find_spec(package) is None:
        return f"the package {package} is not installed"
    on_cuda = package == "torch" and _torch_device() == "cuda"
    if engine == "torch-fp16" and not on_cuda:
        return "there is no CUDA device"
    if engine.endswith("-bf16") and not on_cuda and not computes_bfloat16():
        return "this processor does not compute with bfloat16"
    return None


def _elsewhere(chosen: EngineChoice) -> str | None:
    """What was chosen with a GPU says nothing of a machine without."""
    if chosen.engine.startswith("torch") and (here := _torch_device()) != chosen.device:
        return f"it was chosen on {chosen.device}, and here is {here}"
    return None


def _torch_device() -> str:
    from model_zoo.inference.torch_engine import device

    return device().type


def _load(folder: Path, card: ModelCard, engine: Measurable, threads: int | None) -> Engine:
    if engine == "onnx":
        return OnnxEngine(folder, card, threads)
    if engine == "openvino" or engine == "openvino-bf16":
        from model_zoo.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(folder, card, threads, "bf16" if engine == "openvino-bf16" else "f32")
    from model_zoo.inference.torch_engine import TorchEngine  # torch only where needed

    return TorchEngine(folder, threads, engine)


class OnnxEngine:
    """ONNX Runtime on the CPU: on two cores 1.3 to 2 times as fast as torch, with equal masks."""

    name = "onnx"
    batch = 1  # on a CPU a larger batch costs memory and gains nothing

    def __init__(self, folder: Path, card: ModelCard, threads: int | None = None) -> None:
        path = onnx_file(folder)
        # Imported at the first model: it starts threads when it is imported, and gunicorn forks.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise BrokenModel(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error
        check_channels(
            path, card, self._session.get_inputs()[0].shape[1], self._session.get_outputs()[0].shape[1]
        )
        # Hand memory back after each image: inputs come in many sizes, and the arena never shrinks alone.
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        (answer,) = self._session.run(["logits"], {"image": images}, self._run_options)
        return np.asarray(answer, dtype=np.float32)


def onnx_file(folder: Path) -> Path:
    """The folder's ONNX file; raises `BrokenModel`."""
    path = folder / ONNX_NAME
    if not path.is_file():
        raise BrokenModel(f"{folder} has no {ONNX_NAME}; load it with the torch engine ({STATE_NAME}).")
    return path


def check_channels(path: Path, card: ModelCard, frames: int, classes: int) -> None:
    """Raise `BrokenModel` unless the network in `path` is the one of the card."""
    if (frames, classes) != (card.spec.input_depth, card.spec.classes):
        raise BrokenModel(
            f"{path} maps {frames} frames to {classes} classes; its card says "
            f"{card.spec.input_depth} and {card.spec.classes}."
        )
