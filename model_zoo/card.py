"""A model that knows how it must be fed: what `card.json` beside the weights says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from model_zoo.errors import BrokenModel
from model_zoo.names import decoder_name, encoder_name

CARD_NAME = "card.json"
STATE_NAME = "model.safetensors"
ONNX_NAME = "model.onnx"
BACKGROUND_NAMES = ("background", "bg")


class Frozen(BaseModel):
    """Immutable record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassInfo(Frozen):
    """One class of a segmentation; its place in the tuple is its index in masks and logits."""

    name: str
    color: str = "#e6194b"
    """CSS colour, for overlays and label configs."""
    implicit: bool = False
    """True for the background that no label stands for: never written as a region."""


def background(classes: Sequence[ClassInfo]) -> int:
    """Index of the class that stands for nothing in particular: implicit, else so called, else the first."""
    for index, info in enumerate(classes):
        if info.implicit or info.name.strip().lower() in BACKGROUND_NAMES:
            return index
    return 0


class ModelSpec(Frozen):
    """Which network: enough to build it again, without its weights."""

    encoder: Annotated[str, AfterValidator(encoder_name)] = "resnet34"
    """An smp encoder, or `tu-<timm model>`; friendly names such as `dinov2-small` become one of them."""
    decoder: Annotated[str, AfterValidator(decoder_name)] = "unet"
    classes: int = Field(ge=2)
    """Number of output channels, background included."""
    input_depth: int = Field(default=1, ge=1)
    """Neighbouring frames stacked as channels; odd, 1 for a single image."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the architecture."""


class Normalisation(Frozen):
    """How raw intensities become network input; see `model_zoo.normalisation.normalise`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["percentile", "range"] = "percentile"
    """`percentile`: each image stretched to its own percentile range; `range`: divided by its dtype's
    maximum."""
    low: float = Field(default=1.0, ge=0, lt=100)
    """Percentile that becomes 0, in %."""
    high: float = Field(default=99.0, gt=0, le=100)
    """Percentile that becomes 1, in %."""
    mean: float = 0.449
    """Subtracted after scaling to [0, 1]; 0.449 and 0.226 are ImageNet's means over its channels."""
    std: float = Field(default=0.226, gt=0)
    """Divided by after that."""
    info_bar: Literal["leave_out", "keep"] = "leave_out"
    """`leave_out`: the microscope's bar below the picture does not count for the percentiles, is not learnt
    from, and is answered as background; see `model_zoo.info_bar`."""


class WeightsRecord(Frozen):
    """Which weights were asked for, and which were really loaded into the encoder."""

    asked: str = "imagenet"
    loaded: str = "none"
    """`none`, `imagenet`, `micronet`, `image-micronet`, or the sha256 of the file that was loaded."""
    note: str = ""
    """Where they came from, or why they could not be had."""
    licence: str = ""
    """Of the published weights, where it is known."""


class ModelCard(Frozen):
    """Everything about a version that serving, the gate and a reader need."""

    version: str
    created_at: datetime
    spec: ModelSpec
    classes: tuple[ClassInfo, ...]
    normalisation: Normalisation = Normalisation()
    weights: WeightsRecord = WeightsRecord()
    tile: int = Field(default=512, ge=32)
    """Side in px of the tiles inference feeds; a multiple of the network's stride."""
    data_hash: str = ""
    """`Manifest.content_hash` of what it was trained on."""
    training_images: int = 0
    holdout_images: int = 0
    code_version: str = ""
    parents: tuple[str, ...] = ()
    """Versions this one was compared with or started from, newest first."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """What was measured: training, holdout, and the gate's verdict."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The resolved training configuration."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of every other file in the folder, by name."""

    def write(self, folder: Path) -> None:
        """Write `card.json` into `folder` (not atomic: the folder is not yet published)."""
        (folder / CARD_NAME).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Read the card of a model folder; raises `BrokenModel` when it is missing or malformed."""
        path = folder / CARD_NAME
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise BrokenModel(f"{folder} is not a model: it has no {CARD_NAME}.") from None
        except (ValidationError, ValueError, OSError) as error:
            raise BrokenModel(f"{path} cannot be read as a model card: {error}") from None
