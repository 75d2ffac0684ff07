"""Which engine serves a version, and what was measured when it was chosen: part of the model card."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from model_zoo.card import Frozen, ModelCard

KEY = "engines"
"""Where a card's `metrics` hold an `EngineChoice`."""

Measurable = Literal["onnx", "openvino", "openvino-bf16", "torch", "torch-bf16", "torch-fp16"]
EngineName = Literal["auto", Measurable]
"""What runs a network. The float32 ones give equal masks; `-bf16` and `-fp16` compute with 16 bits."""


class EngineMeasurement(Frozen):
    """What one engine did with the images it was tried on."""

    engine: Measurable
    milliseconds: float | None = None
    """Median over the images, normalisation and tiles included; None for one that could not be tried."""
    equal_pixels: float | None = None
    """Share of pixels with the class that float32 torch gives them, in [0, 1]."""
    iou_change: float | None = None
    """Largest difference of a class's IoU to float32 torch's, in points (100 = all)."""
    eligible: bool = False
    note: str = ""
    """Why it could not be tried or may not serve."""


class EngineChoice(Frozen):
    """The fastest engine that gives float32 torch's masks, on the machine where that was measured."""

    engine: Measurable
    device: Literal["cpu", "cuda"]
    """What the torch engines ran on."""
    processor: str
    threads: int = Field(ge=1)
    """CPU threads an engine might take."""
    images: int = Field(ge=1)
    sizes: tuple[tuple[int, int], ...]
    """(height, width) in px, each once."""
    measured: tuple[EngineMeasurement, ...]

    @classmethod
    def of(cls, card: ModelCard) -> EngineChoice | None:
        """What a card records; None for one that records nothing we understand."""
        try:
            return cls.model_validate(card.metrics[KEY])
        except (KeyError, ValidationError):
            return None

    def on(self, card: ModelCard) -> ModelCard:
        """The card with this choice."""
        return card.model_copy(update={"metrics": {**card.metrics, KEY: self.model_dump(mode="json")}})
