"""Model folders as training leaves them: random weights, but settled batch statistics."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from model_zoo.card import ClassInfo, ModelCard, ModelSpec

TINY = {"decoder_channels": [64, 32, 16, 16, 8]}


def card_of(spec: ModelSpec, version: str = "", **fields: object) -> ModelCard:
    classes = tuple(ClassInfo(name=f"class {index}") for index in range(spec.classes))
    return ModelCard.model_validate(
        {"version": version, "created_at": datetime(2026, 1, 1, tzinfo=UTC), "spec": spec, "classes": classes}
        | fields
    )


def write_model(folder: Path, spec: ModelSpec, **fields: object) -> Path:
    """A complete model folder, as training leaves it."""
    import torch

    from model_zoo.architectures import build, stride
    from model_zoo.store import export_onnx, save_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    model = build(spec)
    side = 2 * stride(spec)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, spec.input_depth, side, side))
    save_model(model, folder)
    export_onnx(model, spec, folder)
    card_of(spec, **fields).write(folder)
    return folder
