"""The encoder of the classic U-Net, as an encoder of segmentation_models_pytorch."""

from __future__ import annotations

from typing import Any

from segmentation_models_pytorch.encoders import encoders as smp_encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 1024)


class UnetEncoder(nn.Module, EncoderMixin):  # type: ignore[misc]  # smp is untyped
    """Two 3 × 3 convolutions a level, a 2 × 2 maximum between levels, widths of 64 to 1024.

    Ronneberger et al. 2015 (MICCAI, arXiv:1505.04597), fig. 1, with two changes everybody makes: padded
    convolutions, so that the answer has the size of the image, and batch norm (Ioffe and Szegedy 2015).
    Unlike smp's other encoders its first level keeps full resolution, which thin cracks and boundaries are
    seen at: (N, D, H, W) → the image, and `depth` levels at 1, 1/2, … 1/2^(depth - 1) of its size.
    """

    def __init__(self, out_channels: list[int], depth: int = 5, output_stride: int = 16) -> None:
        super().__init__()
        if not 3 <= depth <= len(WIDTHS):
            raise ValueError(f"encoder_depth of the encoder unet is {depth}; it must be 3, 4 or 5")
        self._depth = depth
        self._in_channels = out_channels[0]
        self._out_channels = out_channels
        self._output_stride = 2 ** (depth - 1)
        inputs = (out_channels[0], *WIDTHS)
        self.levels = nn.ModuleList(_level(inputs[n], WIDTHS[n]) for n in range(depth))
        self.halve = nn.MaxPool2d(2)

    @property
    def output_stride(self) -> int:
        """Sides of the image must be multiples of it, in px."""
        return int(self._output_stride)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, D, H, W) → the image and a feature map for each level."""
        features = [image]
        for number, level in enumerate(self.levels):
            features.append(level(self.halve(features[-1]) if number else image))
        return features

    def make_dilated(self, output_stride: int) -> None:
        """Refused: there is no stride that could become a dilation."""
        raise ValueError("the encoder unet halves by maxima, which cannot be dilated")


def _level(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def declare() -> None:
    """Make smp know it as `unet`; doing it again changes nothing."""
    entry: dict[str, Any] = {
        "encoder": UnetEncoder,
        "pretrained_settings": {},
        "params": {"out_channels": [3, *WIDTHS]},
    }
    smp_encoders.setdefault("unet", entry)
