from __future__ import annotations

import json

import pytest

from training.__main__ import main


def test_models_lists_what_combines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    encoders = {entry["name"]: entry for entry in told["encoders"]}
    assert set(encoders["dinov2-small"]["parameters"]) == {"dpt"}
    assert "deeplabv3plus" not in encoders["unet"]["parameters"]
    assert encoders["resnet18"]["weights"] == ["imagenet", "micronet", "image-micronet"]
    assert encoders["dinov3-small"]["licences"] == {"imagenet": "dinov3-license"}
