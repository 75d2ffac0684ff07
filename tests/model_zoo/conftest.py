from __future__ import annotations

from pathlib import Path

import pytest
from model_folders import TINY, write_model

from model_zoo.card import ModelSpec


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    return ModelSpec(encoder="tu-test_resnet", classes=3, options=TINY)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec) -> Path:
    """A folder with safetensors, ONNX and card (version ""); tests leave it as it is."""
    return write_model(tmp_path_factory.mktemp("tiny"), tiny_spec, tile=128)
