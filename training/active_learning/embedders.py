"""What turns an image into an embedding: the encoder of a model, or of a weights file, or texture alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import STATE_NAME, ModelCard, ModelSpec, Normalisation
from model_zoo.normalisation import normalise
from training.active_learning import descriptor

LONGEST_SIDE = 512
"""Px that images are reduced to before they are embedded; bounds time and memory."""
_PROBE = 64


class Embedder(Protocol):
    """Turns images into embeddings, the same for the same pixels."""

    identity: str
    """Whoever has another one gives other embeddings."""
    width: int

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Grey (H, W) of any type → float32 (width,)."""


class Texture:
    """`training.active_learning.descriptor`: no weights."""

    identity = descriptor.NAME
    width = descriptor.WIDTH

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        return descriptor.describe_texture(image)


class EncoderFeatures:
    """Mean and deviation of the encoder's deepest feature map, over an image of at most 512 px."""

    def __init__(self, network: Any, spec: ModelSpec, normalisation: Normalisation, identity: str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder = network.encoder.to(self._device).eval()
        self._depth = spec.input_depth
        self._normalisation = normalisation
        from model_zoo.architectures import stride

        self._stride = stride(spec)
        self.identity = f"encoder-1 {identity}"
        self.width = len(self(np.zeros((_PROBE, _PROBE), np.uint8)))

    @classmethod
    def of_model(cls, folder: Path) -> EncoderFeatures:
        """The encoder of a model folder; raises `BrokenModel`."""
        from model_zoo.integrity import sha256_of
        from model_zoo.store import load_model

        card = ModelCard.read(folder)
        network = load_model(folder)
        return cls(network, card.spec, card.normalisation, sha256_of(folder / STATE_NAME))

    @classmethod
    def of_weights(cls, encoder: str, weights: str) -> EncoderFeatures:
        """An encoder by name with weights `imagenet` or of a file; raises `WeightsUnavailable`."""
        import torch

        from model_zoo.architectures import build
        from model_zoo.weights import load_encoder_weights

        torch.manual_seed(0)
        spec = ModelSpec(encoder=encoder, decoder="fpn", classes=2)
        network = build(spec)
        record = load_encoder_weights(network, spec, weights)
        return cls(network, spec, Normalisation(), f"{encoder} {record.loaded}")

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        import cv2

        scale = min(1.0, LONGEST_SIDE / max(image.shape))
        height, width = (self._side(side * scale) for side in image.shape)
        grey = normalise(image[None], self._normalisation)[0]
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        batch = self._torch.from_numpy(np.repeat(grey[None, None], self._depth, axis=1))
        with self._torch.inference_mode():
            features = self._deepest(self._encoder(batch.to(self._device))).float()
            moments = self._torch.cat([features.mean(dim=(2, 3)), features.std(dim=(2, 3), correction=0)], 1)
        values: NDArray[np.float32] = moments[0].cpu().numpy()
        # Lengths within float16's range, whatever the encoder; the pool standardises them anyway.
        return values / np.float32(max(1.0, float(np.abs(values).max()) / 1000))

    def _side(self, length: float) -> int:
        return max(1, round(length / self._stride)) * self._stride

    def _deepest(self, features: Any) -> Any:
        """The last map (N, C, h, w), however the encoder wraps what it returns."""
        if isinstance(features, list | tuple):
            found = [self._deepest(each) for each in features if each is not None]
            return next((each for each in reversed(found) if each is not None), None)
        return features if getattr(features, "ndim", 0) == 4 else None
