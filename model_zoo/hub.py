"""Where an encoder's pre-trained weights are on the Hugging Face hub, with a short wait when offline."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import segmentation_models_pytorch as smp
import timm
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from model_zoo.decoders import TIMM_PREFIX
from model_zoo.download import why_unreachable
from model_zoo.errors import WeightsUnavailable

_FILE = "model.safetensors"


def pretrained_file(encoder: str) -> tuple[Path, str]:
    """The local copy of an encoder's default weights, downloaded once, and `repository@revision`.

    The cache is looked at first; `HF_HUB_OFFLINE=1` stops there. Raises `WeightsUnavailable` within
    seconds when the hub cannot be reached.
    """
    repository, revision, filename = _location(encoder)
    source = f"{repository}@{revision}" if revision else repository
    cached = huggingface_hub.try_to_load_from_cache(repository, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached), source
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise _unavailable(encoder, "HF_HUB_OFFLINE is set and they are not in the local cache")
    # Asked first, because the hub's own client retries five times, 23 s in all.
    problem = why_unreachable(huggingface_hub.hf_hub_url(repository, filename, revision=revision), "the hub")
    if problem:
        raise _unavailable(encoder, problem)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision)), source
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _unavailable(encoder, str(error).splitlines()[0]) from error


def licence(encoder: str) -> str:
    """Of an encoder's published weights, as timm records it; empty where that is not known."""
    name = encoder.removeprefix(TIMM_PREFIX) if encoder.startswith(TIMM_PREFIX) else None
    settings = timm.get_pretrained_cfg(name, allow_unregistered=True) if name else None
    return (settings.license or "") if settings else ""


def _location(encoder: str) -> tuple[str, str | None, str]:
    if encoder.startswith(TIMM_PREFIX):
        settings = timm.get_pretrained_cfg(encoder.removeprefix(TIMM_PREFIX), allow_unregistered=True)
        if settings is None or not settings.hf_hub_id:
            raise _unavailable(encoder, "timm has none for it")
        return settings.hf_hub_id, None, settings.hf_hub_filename or _FILE
    known = smp.encoders.encoders[encoder]["pretrained_settings"]
    if "imagenet" not in known:
        raise _unavailable(encoder, f"smp has none for it, only {', '.join(known) or 'random ones'}")
    return known["imagenet"]["repo_id"], known["imagenet"]["revision"], _FILE


def _unavailable(encoder: str, reason: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"Pre-trained weights for {encoder} cannot be had: {reason}. "
        "Give a local file with `--weights FILE` (.safetensors), or `--weights none`."
    )
