"""`python -m training models`: which encoders and decoders there are, and what combines."""

from __future__ import annotations

import argparse
import json
from typing import Any

from model_zoo.names import DECODER_NAMES, NAMED_ENCODERS
from training.commands.command import Bar, Command, add_json_argument

EXAMPLES = """examples:
  python -m training models
  python -m training models --json

Any other encoder of segmentation_models_pytorch or timm may be given by its name: docs/model-zoo.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `models`."""
    add_json_argument(parser, "encoders, decoders and weights")


def run(options: argparse.Namespace) -> int:
    """Build each combination without its memory, and say which there are; returns the exit code."""
    from model_zoo import micronet

    entries = []
    with Bar("encoders") as bar:
        for done, name in enumerate(NAMED_ENCODERS):
            bar("building", done, len(NAMED_ENCODERS))
            entries.append(_entry(name))
    if options.json:
        offered = ["none", "imagenet", *micronet.DATASETS, "FILE", "FOLDER", "ssl:RUN"]
        print(json.dumps({"encoders": entries, "decoders": list(DECODER_NAMES), "weights": offered}))
        return 0
    print("\n".join(_table(entries)))
    print("Millions of parameters of encoder and decoder together; – does not combine.")
    return 0


def _entry(name: str) -> dict[str, Any]:
    from model_zoo import hub, micronet

    smp_name = NAMED_ENCODERS[name]
    sizes = {decoder: _parameters(smp_name, decoder) for decoder in DECODER_NAMES}
    weights = [] if smp_name == "unet" else ["imagenet"]
    weights += [asked for asked in micronet.DATASETS if smp_name in micronet.encoders(asked)]
    return {
        "name": name,
        "encoder": smp_name,
        "parameters": {decoder: size for decoder, size in sizes.items() if size is not None},
        "weights": weights,
        "licences": {
            asked: hub.licence(smp_name) if asked == "imagenet" else micronet.LICENCE for asked in weights
        },
    }


def _parameters(encoder: str, decoder: str) -> int | None:
    """Of the network; None where the two do not combine."""
    import torch

    from model_zoo.architectures import build
    from model_zoo.card import ModelSpec
    from model_zoo.errors import UnsupportedModel

    try:
        with torch.device("meta"):
            model = build(ModelSpec(encoder=encoder, decoder=decoder, classes=2))
    except UnsupportedModel:
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def _table(entries: list[dict[str, Any]]) -> list[str]:
    rows = [("encoder", *DECODER_NAMES, "published weights (licence)")]
    for entry in entries:
        sizes = [entry["parameters"].get(decoder) for decoder in DECODER_NAMES]
        weights = [
            asked + (f" ({licence})" if licence else "") for asked, licence in entry["licences"].items()
        ]
        cells = ["–" if size is None else f"{size / 1e6:.1f}" for size in sizes]
        rows.append((entry["name"], *cells, ", ".join(weights) or "none"))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


COMMAND = Command("models", "list the encoders, decoders and what combines", add_arguments, run, EXAMPLES)
