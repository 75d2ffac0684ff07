"""What the machine has, and what settings left to `auto` become on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch

from training.config import BadConfig, TrainingConfig
from training.fitting.ranks import Ranks

_LONG_ENOUGH_TO_COMPILE = 20  # minutes: compiling takes one or two
_GPU_RESERVE = 2.0  # GiB for weights, their average, AdamW's moments and cuDNN's workspace
_GPU_PER_CROP = 1.0  # GiB for the activations of 512 × 512 px; halving the batch is there for larger networks
_BATCHES_ON_GPU = (32, 16, 8, 4)
_SMALLEST_GPU_FOR_512 = 8.0  # GiB


@dataclass(frozen=True)
class Hardware:
    """What a training may use on this machine."""

    device: Literal["cpu", "cuda"]
    cores: int
    gpu_gib: float = 0.0
    """Memory of each GPU."""
    gpus: int = 0
    bfloat16: bool = False
    """Whether bfloat16 is faster than float32 here, not only possible."""
    compiler: bool = False
    """Whether torch.compile has what it needs on a GPU."""


class ResolvedConfig(TrainingConfig):
    """A configuration in which nothing is left to `auto`."""

    crop: int
    batch_size: int
    workers: int
    compile: bool
    precision: Literal["float32", "bfloat16"]
    device: Literal["cpu", "cuda"]


def find_hardware(asked: Literal["auto", "cpu", "cuda"]) -> Hardware:
    """Look at the machine; raises `BadConfig` for a GPU that is not there.

    On a CPU, bfloat16 pays where there are instructions for it: with AVX-512's alone a step of a U-Net took
    0.65 (ResNet-18, ResNet-34) to 0.75 (EfficientNet-b0) of the time in float32; AMX is faster still.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked == "cpu" or not torch.cuda.is_available():
        if asked == "cuda":
            raise BadConfig(
                "`device` is cuda, but torch sees no GPU here; set it to auto, or mend the driver."
            )
        return Hardware("cpu", cores, bfloat16=_has_bfloat16())
    return Hardware(
        "cuda",
        cores,
        gpu_gib=torch.cuda.get_device_properties(0).total_memory / 2**30,
        gpus=torch.cuda.device_count(),
        bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
        compiler=find_spec("triton") is not None,
    )


def _has_bfloat16() -> bool:
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def resolved(config: TrainingConfig, hardware: Hardware, ranks: Ranks) -> ResolvedConfig:
    """`config` with every `auto` decided; raises `BadConfig` for more GPUs than there are."""
    if hardware.device == "cuda" and ranks.local_count > hardware.gpus:
        raise BadConfig(
            f"`devices` is {ranks.local_count}, but torch sees {hardware.gpus} GPU here; set it to "
            f"{hardware.gpus}, or `device` to cpu."
        )
    crop = config.crop if config.crop != "auto" else _crop(hardware)
    decided: dict[str, Any] = {
        "crop": crop,
        "batch_size": _batch(hardware, crop) * ranks.count,
        "workers": _workers(hardware, ranks),
        "compile": hardware.compiler and config.minutes >= _LONG_ENOUGH_TO_COMPILE,
        "precision": "bfloat16" if hardware.bfloat16 else "float32",
        "device": hardware.device,
    }
    values = {name: getattr(config, name) for name in TrainingConfig.model_fields}
    asked = {name: value for name, value in values.items() if value != "auto" or name not in decided}
    return ResolvedConfig.model_construct(**(decided | asked))


def _crop(hardware: Hardware) -> int:
    return 512 if hardware.gpu_gib >= _SMALLEST_GPU_FOR_512 else 256


def _batch(hardware: Hardware, crop: int) -> int:
    """Crops that each process can hold."""
    if hardware.device == "cpu":
        return 4
    room = (hardware.gpu_gib - _GPU_RESERVE) / (_GPU_PER_CROP * (crop / 512) ** 2)
    return next((batch for batch in _BATCHES_ON_GPU if batch <= room), 2)


def _workers(hardware: Hardware, ranks: Ranks) -> int:
    if hardware.device == "cpu":
        return 0
    return min(8, max(1, hardware.cores // ranks.local_count - 1))
