"""Which file of a folder holds the weights, and what is known of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from model_zoo.card import CARD_NAME, STATE_NAME, Frozen, ModelCard
from model_zoo.errors import BrokenModel, WeightsUnavailable
from model_zoo.names import encoder_name

SSL_PREFIX = "ssl:"
ENCODER_STATE = "encoder.safetensors"
ENCODER_RECORD = "encoder.json"
_SUFFIXES = (".safetensors", ".pth", ".pt")


class EncoderRecord(Frozen):
    """`encoder.json`: what a self-supervised pre-training says of its `encoder.safetensors`."""

    encoder: str
    input_depth: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class FoundWeights:
    """A file of weights; where it is ours, which encoder it is of."""

    path: Path
    encoder: str | None = None
    frames: bool = False
    """Its input channels are frames, not colours."""


def weights_in(folder: Path) -> FoundWeights:
    """The weights of a folder; raises `WeightsUnavailable` with what is in it.

    In this order: a pre-training's `encoder.safetensors`, a model of ours (`model.safetensors` with its
    card), a snapshot of the Hugging Face hub (`model.safetensors`), the only file of weights there is.
    """
    if (folder / ENCODER_STATE).is_file() and (folder / ENCODER_RECORD).is_file():
        return _pretraining(folder)
    if (folder / STATE_NAME).is_file():
        return _model(folder) if (folder / CARD_NAME).is_file() else FoundWeights(folder / STATE_NAME)
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if len(files) == 1:
        return FoundWeights(files[0])
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise WeightsUnavailable(
        f"It is not clear which weights of {folder} are meant: it holds {listed or 'nothing'}. Give the file "
        f"itself, or a folder with {STATE_NAME} or a single .safetensors or .pth."
    )


def ssl_folder(run: str) -> Path:
    """Of a self-supervised run: the folder itself, or `MODEL_DIR/ssl/<run>`; raises `WeightsUnavailable`."""
    state = Path(os.environ.get("MODEL_DIR") or "data/srpu") / "ssl"
    for folder in (Path(run).expanduser(), state / run):
        if run and (folder / ENCODER_STATE).is_file():
            return folder
    runs = sorted(path.parent.name for path in state.glob(f"*/{ENCODER_STATE}"))
    raise WeightsUnavailable(
        f"There is no self-supervised run {run!r}: neither that folder nor {state / run} has an "
        f"{ENCODER_STATE}. Runs in {state}: {', '.join(runs) or 'none'}."
    )


def _pretraining(folder: Path) -> FoundWeights:
    path = folder / ENCODER_RECORD
    try:
        record = EncoderRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError, OSError) as error:
        raise WeightsUnavailable(
            f"{path} does not say which encoder its weights are of: {' '.join(str(error).split())[:200]}"
        ) from None
    return FoundWeights(folder / ENCODER_STATE, encoder_name(record.encoder), frames=True)


def _model(folder: Path) -> FoundWeights:
    try:
        spec = ModelCard.read(folder).spec
    except BrokenModel:  # somebody else's card.json
        return FoundWeights(folder / STATE_NAME)
    return FoundWeights(folder / STATE_NAME, spec.encoder, frames=True)
