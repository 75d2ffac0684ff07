"""A network's weights on disk: safetensors for torch, ONNX for serving."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from model_zoo import onnx_operators
from model_zoo.architectures import build, stride
from model_zoo.card import ONNX_NAME, STATE_NAME, ModelCard, ModelSpec
from model_zoo.errors import BrokenModel
from model_zoo.integrity import file_hashes

__all__ = ["export_onnx", "file_hashes", "load_model", "save_model"]

_log = logging.getLogger(__name__)
_TOLERANCE = 1e-4  # of the largest logit; measured differences are near 1e-5


def save_model(model: nn.Module, folder: Path) -> Path:
    """Write `model.safetensors` (parameters and buffers) into `folder`; tied tensors are each written out."""
    path = folder / STATE_NAME
    # safetensors refuses tensors that share memory, so each gets its own.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(state, path)
    return path


def load_model(folder: Path) -> nn.Module:
    """The network of a model folder, on the CPU, in eval mode; raises `BrokenModel`."""
    card = ModelCard.read(folder)
    model = build(card.spec)
    path = folder / STATE_NAME
    try:
        model.load_state_dict(load_file(path), strict=True)
    except FileNotFoundError:
        raise BrokenModel(f"{folder} is incomplete: {STATE_NAME} is missing.") from None
    except (SafetensorError, RuntimeError, OSError) as error:
        raise BrokenModel(
            f"{path} does not hold the weights its card describes: {_in_one_line(error)}"
        ) from None
    return model.eval()


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def export_onnx(model: nn.Module, spec: ModelSpec, folder: Path) -> Path:
    """Write `model.onnx` with free batch, height and width; input `image`, output `logits`.

    The file is compared with the model on two sizes before it gets its name; where it cannot be
    made, or differs, there is no file and `BrokenModel` is raised (torch can still serve the model).
    """
    path, unchecked = folder / ONNX_NAME, folder / f".{ONNX_NAME}"
    twin = copy.deepcopy(model).cpu().float().eval()
    try:
        _export(twin, spec, unchecked)
        for size in ((2, 3), (5, 4)):
            _compare(twin, spec, unchecked, size)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return path


def _export(model: nn.Module, spec: ModelSpec, path: Path) -> None:
    example = torch.zeros(1, spec.input_depth, 2 * stride(spec), 2 * stride(spec))
    free = {0: "n", 2: "height", 3: "width"}
    try:
        # Where an operator has no ONNX form, torch prints its whole graph: not among a command's output.
        torch._C._jit_set_onnx_log_output_stream("stderr")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecation, and tracer notes on shapes
            onnx_operators.declare()
            torch.onnx.export(
                model,
                (example,),
                str(path),
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes={"image": free, "logits": free},
                opset_version=onnx_operators.OPSET,
                dynamo=False,
            )
    except (RuntimeError, ValueError, TypeError) as error:  # UnsupportedOperatorError is a RuntimeError
        raise BrokenModel(
            f"{spec.encoder} × {spec.decoder} cannot be exported to ONNX: {_in_one_line(error)}"
        ) from error


def _compare(model: nn.Module, spec: ModelSpec, path: Path, strides: tuple[int, int]) -> None:
    height, width = (count * stride(spec) for count in strides)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, spec.input_depth, height, width, generator=generator)
    with torch.inference_mode():
        expected = model(image).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is in the exception
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(["logits"], {"image": image.numpy()})
    except Exception as error:  # onnxruntime's errors share no base class but this one
        reason = str(error).splitlines()[0]
        raise BrokenModel(f"The ONNX export of {spec.encoder} × {spec.decoder} fails: {reason}") from error
    if found.shape != expected.shape:
        raise BrokenModel(f"The ONNX export answers {found.shape} where the model answers {expected.shape}.")
    difference = float(np.abs(found - expected).max())
    allowed = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    _log.debug("ONNX export differs by %.2g at %d x %d px", difference, height, width)
    if not difference <= allowed:
        raise BrokenModel(
            f"The ONNX export of {spec.encoder} × {spec.decoder} differs from the model by {difference:.2g} "
            f"at {height} x {width} px; {allowed:.2g} is allowed."
        )
