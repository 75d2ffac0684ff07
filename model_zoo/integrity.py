"""Whether a model's files are what its card says. Standard library only."""

from __future__ import annotations

import hashlib
from pathlib import Path

from model_zoo.card import CARD_NAME, ONNX_NAME, STATE_NAME, ModelCard
from model_zoo.errors import BrokenModel

MODEL_FILES = (STATE_NAME, ONNX_NAME)
"""What a version folder may hold besides its card; the ONNX file may be missing."""


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each model file in `folder`, by name: what `ModelCard.files` records."""
    return {name: sha256_of(folder / name) for name in MODEL_FILES if (folder / name).is_file()}


def verify(folder: Path, card: ModelCard) -> None:
    """Raise `BrokenModel` unless every file the card lists is there, unchanged."""
    for name, expected in card.files.items():
        path = folder / name
        if Path(name).name != name or name == CARD_NAME:
            raise BrokenModel(f"The card of {folder} lists {name!r}, which is not a model file.")
        if not path.is_file():
            raise BrokenModel(f"{folder} is incomplete: {name} is missing; restore it or roll back.")
        if sha256_of(path) != expected:
            raise BrokenModel(f"{path} is damaged: its sha256 is not the one its card records; roll back.")
