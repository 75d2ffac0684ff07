"""The yardstick: the ML backend that one writes for Label Studio in an afternoon. Nothing of SRPU is used.

Flask, requests, Pillow, a U-Net of segmentation_models_pytorch run eagerly over the whole image, and the
SDK's brush codec. `predict_latency` starts it.

    MODEL=weights.safetensors CLASSES=pore,grain gunicorn --workers 1 --threads 8 --timeout 0 \\
        benchmarks.plain_backend:app
"""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from itertools import pairwise
from typing import Any

import model_zoo  # noqa: F401  lets torchvision be imported beside a CPU build of torch; no more of ours

# isort: split
import flask
import numpy as np
import requests
import segmentation_models_pytorch as smp
import torch
from label_studio_sdk.converter import brush
from PIL import Image
from safetensors.torch import load_file

Image.MAX_IMAGE_PIXELS = None
STRIDE = 32

app = flask.Flask(__name__)


class Plain:
    """The model, on the GPU where there is one."""

    def __init__(self) -> None:
        self.classes = os.environ["CLASSES"].split(",")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=len(self.classes) + 1)
        self.model.load_state_dict(load_file(os.environ["MODEL"]), strict=False)
        self.model.eval().to(self.device)

    @torch.no_grad()
    def infer(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class map and probabilities; the whole image at once, padded to the network's stride."""
        low, high = np.percentile(image, (1, 99))
        scaled = (np.clip((image - low) / max(high - low, 1), 0, 1) - 0.449) / 0.226
        height, width = image.shape
        padded = np.pad(scaled, ((0, -height % STRIDE), (0, -width % STRIDE)), mode="reflect")
        batch = torch.from_numpy(padded.astype(np.float32))[None, None].to(self.device)
        found = self.model(batch).softmax(1)[0, :, :height, :width].cpu().numpy()
        return found.argmax(0), found

    def encode(self, class_map: np.ndarray, found: np.ndarray) -> list[dict[str, Any]]:
        """A brush region for each class."""
        height, width = class_map.shape
        results = []
        for index, name in enumerate(self.classes, 1):
            mask = class_map == index
            if mask.any():
                code = brush.mask2rle(mask.astype(np.uint8) * 255)
                value = {"format": "rle", "rle": code, "brushlabels": [name]}
                results.append(
                    {"id": uuid.uuid4().hex[:8], "type": "brushlabels", "from_name": "brush"}
                    | {"to_name": "image", "original_width": width, "original_height": height}
                    | {"value": value, "score": float(found[index][mask].mean())}
                )
        return results


_loaded: list[Plain] = []


def plain() -> Plain:
    """The one model of this process."""
    if not _loaded:
        _loaded.append(Plain())
    return _loaded[0]


def decode(content: bytes) -> np.ndarray:
    """Grey pixels of an image file."""
    return np.array(Image.open(io.BytesIO(content)).convert("L"))


def stages(url: str, model: Plain) -> dict[str, float]:
    """How long each stage takes for one image, in ms."""
    marks = [time.perf_counter()]

    def done(value: Any) -> Any:
        marks.append(time.perf_counter())
        return value

    content = done(requests.get(url, timeout=60).content)
    image = done(decode(content))
    found = done(model.infer(image))
    results = done(model.encode(*found))
    done(json.dumps({"results": [{"result": results}]}))
    names = ("fetch", "decode", "infer", "encode", "json")
    return {name: 1e3 * (b - a) for name, (a, b) in zip(names, pairwise(marks), strict=True)}


@app.route("/health")
def health() -> Any:
    plain()
    return {"status": "UP"}


@app.route("/predict", methods=["POST"])
def predict() -> Any:
    results = []
    for task in flask.request.get_json()["tasks"]:
        image = decode(requests.get(task["data"]["image"], timeout=60).content)
        results.append({"result": plain().encode(*plain().infer(image)), "score": 0.5, "model_version": "1"})
    return flask.jsonify(results=results)
