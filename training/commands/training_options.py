"""The options that decide a training, shared by every command that trains."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from training.config import presets


@dataclass(frozen=True)
class _Plain:
    """An option that is the same as `--set` of the setting of that name."""

    name: str
    metavar: str
    about: str
    text: bool = False
    """The value is a name or a path, never to be read as YAML."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


_PLAIN = (
    _Plain("mode", "MODE", "auto, scratch, finetune_frozen or finetune_differential", text=True),
    _Plain("encoder", "NAME", "of segmentation_models_pytorch, or tu-<timm model>", text=True),
    _Plain("decoder", "NAME", "unet, unetplusplus, fpn, deeplabv3plus or dpt", text=True),
    _Plain("weights", "WEIGHTS", "imagenet, micronet, none, ssl:RUN, or a file or folder", text=True),
    _Plain("input_depth", "N", "neighbouring frames looked at together; odd"),
    _Plain("minutes", "N", "time budget of the steps"),
    _Plain("seed", "N", "of everything that is random"),
    _Plain("crop", "PX", "side of a training crop"),
    _Plain("batch_size", "N", "crops a step"),
    _Plain("device", "DEVICE", "auto, cpu or cuda", text=True),
    _Plain("threads", "N", "CPU threads of the arithmetic"),
    _Plain("devices", "N", "GPUs of each machine that share the training"),
    _Plain("nodes", "N", "machines that share it; see docs/cluster.md"),
    _Plain("validation", "PART", "none, or holdout: its images choose the weights that are kept", text=True),
)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Declare `--preset`, `--set`, and an option for each setting that is changed often."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--preset", default="default", help=f"{', '.join(presets())}, or a YAML file (default: default)"
    )
    for option in _PLAIN:
        group.add_argument(option.flag, dest=option.name, metavar=option.metavar, help=option.about)
    group.add_argument(
        "--keep-checkpoints", action="store_true", help="leave checkpoints/last.ckpt and best.ckpt"
    )
    group.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="any setting; wins over the options above, as they win over the preset",
    )


def overrides_of(options: argparse.Namespace) -> list[str]:
    """What `load_config` is to be given on top of `options.preset`; the values are checked there."""
    plain = []
    for option in _PLAIN:
        value = getattr(options, option.name)
        if value is not None:
            plain.append(f"{option.name}={json.dumps(value) if option.text else value}")
    if options.keep_checkpoints:
        plain.append("keep_checkpoints=true")
    return [*plain, *options.overrides]
