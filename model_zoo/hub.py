"""Where an encoder's pre-trained weights are on the Hugging Face hub, with a short wait when offline."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import segmentation_models_pytorch as smp
import timm
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from model_zoo.decoders import TIMM_PREFIX
from model_zoo.errors import WeightsUnavailable

_FILE = "model.safetensors"
_WAIT = 3.0  # seconds for the hub to answer at all; its own client retries five times, 23 s in all


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
    problem = _why_unreachable(huggingface_hub.hf_hub_url(repository, filename, revision=revision))
    if problem:
        raise _unavailable(encoder, problem)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, filename, revision=revision)), source
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _unavailable(encoder, str(error).splitlines()[0]) from error


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


def _why_unreachable(url: str) -> str | None:
    """One question to the hub; in a thread, because name resolution knows no timeout."""
    problems: list[str | None] = [f"the hub did not answer within {_WAIT:.0f} s"]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (https, from huggingface_hub)
        try:
            with urllib.request.urlopen(request, timeout=_WAIT):  # noqa: S310
                problems.append(None)
        except urllib.error.HTTPError as error:
            problems.append(f"the hub answered {error.code}")
        except OSError as error:
            problems.append(f"the hub cannot be reached ({getattr(error, 'reason', error)})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_WAIT + 1)
    return problems[-1]
