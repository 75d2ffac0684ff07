"""Pre-trained encoder weights: published ones, a file's, a run's, or none; and what was really loaded.

A first convolution trained on RGB is adapted to `input_depth` grey frames, not thrown away: each
frame gets the sum over the colours divided by the number of frames, so that a stack of equal frames
is answered as one grey image is, and a grey image as an RGB image of that grey.
"""

from __future__ import annotations

import logging
from pathlib import Path

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from model_zoo import hub, micronet
from model_zoo.architectures import encoder_arguments, smp_name
from model_zoo.card import ModelSpec, WeightsRecord
from model_zoo.decoders import DECODERS, TIMM_PREFIX
from model_zoo.errors import UnsupportedModel, WeightsUnavailable
from model_zoo.integrity import sha256_of
from model_zoo.names import suggestion
from model_zoo.state_files import read_state
from model_zoo.weight_folders import SSL_PREFIX, FoundWeights, ssl_folder, weights_in

_log = logging.getLogger(__name__)
_PREFIXES = ("module.", "model.", "encoder.", "backbone.")


def load_encoder_weights(model: nn.Module, spec: ModelSpec, asked: str) -> WeightsRecord:
    """Load `asked` into `model.encoder` and say what that was.

    `none`, `imagenet`, `micronet`, `image-micronet`, `ssl:<run>`, or the path of a file or folder. A file is
    a `.safetensors`, or a `.pth`/`.pt` read with `weights_only=True`; it holds the encoder as smp or timm
    names it, or a whole model of which the encoder is taken; for folders see `weight_folders`. Raises
    `WeightsUnavailable` when they cannot be had or do not fit; the model is then unchanged.
    """
    if asked == "none":
        return WeightsRecord(asked=asked, loaded="none")
    encoder = smp_name(spec.encoder)
    if asked == "imagenet":
        path, source = hub.pretrained_file(encoder)
        return _load_published(model, spec, path, source, asked, hub.licence(encoder))
    if asked in micronet.DATASETS:
        path, source = micronet.pretrained_file(encoder, asked)
        return _load_published(model, spec, path, source, asked, micronet.LICENCE)
    found = _find(asked)
    if found.encoder is not None and smp_name(found.encoder) != encoder:
        raise WeightsUnavailable(
            f"{found.path} holds weights of the encoder {found.encoder}, not of {spec.encoder}; "
            f"use `--encoder {found.encoder}`."
        )
    _load_file(model, spec, found)
    return WeightsRecord(asked=asked, loaded=sha256_of(found.path), note=found.path.name)


def _find(asked: str) -> FoundWeights:
    if asked.startswith(SSL_PREFIX):
        return weights_in(ssl_folder(asked.removeprefix(SSL_PREFIX)))
    path = Path(asked).expanduser()
    if path.is_dir():
        return weights_in(path)
    if path.is_file():
        return FoundWeights(path)
    named = ("none", "imagenet", *micronet.DATASETS)
    raise WeightsUnavailable(
        f"There is no weights file {asked!r}; give {', '.join(named)}, ssl:<run>, or the path of a "
        f".safetensors file or of a folder that holds one.{suggestion(asked, named)}"
    )


def _load_published(
    model: nn.Module, spec: ModelSpec, path: Path, source: str, asked: str, licence: str
) -> WeightsRecord:
    _load_file(model, spec, FoundWeights(path))
    note = f"{source}, sha256 {sha256_of(path)}"
    return WeightsRecord(asked=asked, loaded=asked, note=note, licence=licence)


def load_or_random(model: nn.Module, spec: ModelSpec, asked: str) -> WeightsRecord:
    """As `load_encoder_weights`, but go on with random weights, and say so, where that fails."""
    try:
        return load_encoder_weights(model, spec, asked)
    except WeightsUnavailable as error:
        _log.warning("Training starts from random weights, which needs more labels and time: %s", error)
        return WeightsRecord(asked=asked, loaded="none", note=str(error))


def _load_file(model: nn.Module, spec: ModelSpec, found: FoundWeights) -> None:
    path = found.path
    given, frames = read_state(path)
    encoder: nn.Module = model.get_submodule("encoder")
    wanted = encoder.state_dict()
    first = _first_convolution(encoder, spec.input_depth)
    state = _named_as(wanted, given)
    problem = _misfit(wanted, state, first)
    if problem and smp_name(spec.encoder).startswith(TIMM_PREFIX):
        state = _through_timm(given, spec, path)
        problem = _misfit(wanted, state, first)
    if problem:
        raise WeightsUnavailable(f"{path} does not hold weights of the encoder {spec.encoder}: {problem}.")
    state[first] = _adapted(state[first], spec.input_depth, frames=frames or found.frames)
    encoder.load_state_dict({name: state.get(name, tensor) for name, tensor in wanted.items()})


def _named_as(wanted: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the prefix that fits `wanted` best; a whole model is reduced to its encoder."""
    # DataParallel around the features alone, as MicroNet's VGGs and DenseNets were trained.
    state = {name.replace("features.module.", "features.", 1): tensor for name, tensor in state.items()}
    prefixes = {"", *_PREFIXES, *(a + b for a in _PREFIXES for b in _PREFIXES)}
    candidates = [
        {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        for prefix in sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    ]
    candidates += [{prefix + name: tensor for name, tensor in state.items()} for prefix in _PREFIXES]
    return max(candidates, key=lambda candidate: len(candidate.keys() & wanted.keys()))


def _misfit(wanted: dict[str, Tensor], state: dict[str, Tensor], first: str) -> str | None:
    """Why `state` cannot be loaded; the input channels of the first convolution may differ."""
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        return f"{len(missing)} of {len(wanted)} tensors are missing, the first is {missing[0]!r}"
    for name, tensor in wanted.items():
        found = tuple(state.get(name, tensor).shape)
        expected = tuple(tensor.shape)
        if name == first and len(found) == len(expected):
            expected = (*expected[:1], found[1], *expected[2:])
        if found != expected:
            return f"{name} is {found} instead of {expected}"
    return None


def _through_timm(state: dict[str, Tensor], spec: ModelSpec, path: Path) -> dict[str, Tensor]:
    """Let timm rename and resample a checkpoint of its own (position embeddings, patch sizes)."""
    arguments = {name: value for name, value in spec.options.items() if not name.startswith("decoder_")}
    arguments |= {"encoder_weights": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    try:
        donor = smp.create_model(
            DECODERS[spec.decoder].architecture,
            encoder_name=smp_name(spec.encoder),
            in_channels=3,
            classes=spec.classes,
            **(encoder_arguments(spec) | arguments),
        )
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"{path} does not hold weights of the encoder {spec.encoder}: {str(error).splitlines()[0]}"
        ) from error
    return dict(donor.encoder.state_dict())


def _first_convolution(encoder: nn.Module, input_depth: int) -> str:
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == input_depth:
            return f"{name}.weight"
    raise UnsupportedModel("This encoder has no first convolution that weights could be adapted to.")


def _adapted(weight: Tensor, depth: int, *, frames: bool) -> Tensor:
    """First-layer weights (O, k, h, w) for `depth` grey frames; see the module's text."""
    channels = weight.shape[1]
    if channels == depth and (frames or channels != 3):
        return weight
    return (weight.sum(dim=1, keepdim=True) / depth).repeat(1, depth, 1, 1)
