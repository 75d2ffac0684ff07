"""What one training is about."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_zoo.card import ModelCard, ModelSpec
from training.config import TrainingConfig
from training.data.manifest import Manifest
from training.fitting.hardware import ResolvedConfig
from training.fitting.ranks import Ranks
from training.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What one call of `train` is about."""

    manifest: Manifest
    asked: TrainingConfig
    """As given: the same on every machine."""
    config: ResolvedConfig
    """As it is on this one."""
    spec: ModelSpec
    out: Path
    report: Callable[[Progress], None]
    ranks: Ranks = field(default_factory=Ranks)
    warnings: list[str] = field(default_factory=list)
    """What the model's card will say about this run."""

    def warn(self, sentence: str) -> None:
        """Say it now, and in the model's card."""
        log.warning("%s", sentence)
        self.warnings.append(sentence)

    def card(self, **known: Any) -> ModelCard:
        """The model's card, as far as it follows from the job."""
        return ModelCard(
            version="",
            created_at=datetime.now(UTC),
            spec=self.spec,
            classes=self.manifest.classes,
            normalisation=self.config.normalisation,
            tile=self.config.tile,
            data_hash=self.manifest.content_hash,
            holdout_images=len(self.manifest.of("holdout")),
            config=self.config.model_dump(mode="json"),
            **known,
        )
