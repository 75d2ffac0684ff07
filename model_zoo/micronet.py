"""NASA's MicroNet: encoders pre-trained on more than 100 000 micrographs.

Stuckner et al. 2022, npj Computational Materials 8:200. Names, versions and addresses follow
`util.get_pretrained_microscopynet_url` of github.com/nasa/pretrained-microscopy-models (MIT).
"""

from __future__ import annotations

import os
from pathlib import Path

import huggingface_hub

from model_zoo.download import download, why_unreachable
from model_zoo.errors import WeightsUnavailable
from model_zoo.state_files import read_state

LICENCE = "MIT"
ADDRESS = "https://nasa-public-data.s3.amazonaws.com/microscopy_segmentation_models/"
DATASETS = {"micronet": "microscopynet", "image-micronet": "imagenet-microscopynet"}
"""What may be asked for: learnt on MicroNet alone, or on ImageNet and then MicroNet."""
MOST_BYTES = 1 << 30

ENCODERS = (
    *(f"densenet{layers}" for layers in (121, 161, 169, 201)),
    *(f"dpn{layers}" for layers in ("68", "68b", "92", "98", "107", "131")),
    *(f"efficientnet-b{size}" for size in range(6)),
    *("inceptionresnetv2", "inceptionv4", "mobilenet_v2", "xception"),
    *(f"resnet{layers}" for layers in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "senet154"),
    *(f"se_resnet{layers}" for layers in (50, 101, 152)),
    *("se_resnext50_32x4d", "se_resnext101_32x4d"),
    *("vgg11_bn", "vgg13_bn", "vgg16_bn"),
)
_AFTER_IMAGENET_ALONE = ("efficientnet-b6", "efficientnet-b7")


def encoders(asked: str) -> tuple[str, ...]:
    """The encoders there are such weights of."""
    return ENCODERS + (_AFTER_IMAGENET_ALONE if asked == "image-micronet" else ())


def file_name(encoder: str, asked: str) -> str:
    """Of NASA's file; version 1.1 exists of one encoder alone."""
    if encoder == "resnext101_32x8d":
        return "resnext101_pretrained_microscopynet_v1.0.pth.tar"  # one file, without the 32x8d, for both
    version = "1.1" if (encoder, asked) == ("resnet50", "micronet") else "1.0"
    return f"{encoder}_pretrained_{DATASETS[asked]}_v{version}.pth.tar"


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/srpu/micronet`, as a rule under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "srpu" / "micronet"


def pretrained_file(encoder: str, asked: str) -> tuple[Path, str]:
    """The local copy of an encoder's weights, downloaded once, and its address.

    `HF_HUB_OFFLINE=1` forbids the download. Raises `WeightsUnavailable`, within seconds where there is
    no network.
    """
    if encoder not in encoders(asked):
        raise WeightsUnavailable(
            f"There are no {asked} weights of the encoder {encoder}; there are of "
            f"{', '.join(encoders(asked))}."
        )
    name = file_name(encoder, asked)
    path, url = cache_folder() / name, ADDRESS + name
    if path.is_file():
        return path, url
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise _unavailable(encoder, asked, f"HF_HUB_OFFLINE is set and there is no {path}", url)
    problem = why_unreachable(url, "NASA's server")
    if problem:
        raise _unavailable(encoder, asked, problem, url)
    try:
        download(url, path, MOST_BYTES, read_state)
    except (WeightsUnavailable, OSError) as error:
        raise _unavailable(encoder, asked, str(error).rstrip("."), url) from error
    return path, url


def _unavailable(encoder: str, asked: str, reason: str, url: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{asked} weights for {encoder} cannot be had: {reason}. Fetch {url} elsewhere and give it with "
        "`--weights FILE`, or use `--weights none`."
    )
