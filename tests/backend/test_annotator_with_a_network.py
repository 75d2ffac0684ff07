"""A real, tiny network from the registry answers /predict through ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stand_ins import CONFIG, FolderImages

from model_zoo.card import ClassInfo, ModelSpec
from srpu_backend.annotator import Annotator
from srpu_backend.projects import Project, Projects
from tests.model_zoo.model_folders import TINY, card_of, write_model

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Projects(tmp_path).remember(1, label_config=CONFIG, url="http://ls", token="t")


def test_a_published_network_annotates_an_image_of_any_size(project: Project, tmp_path: Path) -> None:
    spec = ModelSpec(encoder="tu-test_resnet", classes=3, options=TINY)
    source = write_model(tmp_path / "source", spec, tile=64)
    names = (ClassInfo(name="background", implicit=True), ClassInfo(name="pore"), ClassInfo(name="grain"))
    card = card_of(spec, "v0001-abc001", tile=64, classes=names)
    project.registry.publish(source, card)
    project.registry.promote(card.version, "test")
    image = np.random.default_rng(0).integers(0, 65535, (75, 101)).astype(np.uint16)
    images = FolderImages(tmp_path, {"a.png": image})
    annotation = Annotator(project, images).annotate({"id": 1, "data": {"image": "a.png"}})
    assert annotation.model_version == card.version
    assert 0 <= annotation.score <= 1
    for region in annotation.result:
        assert (region["original_width"], region["original_height"]) == (101, 75)
        assert 0 < region["score"] <= 1
    again = Annotator(project, images).annotate({"id": 1, "data": {"image": "a.png"}})
    assert again.result == annotation.result
