"""How a model is trained: one strict record, from a preset and what is set on top of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from model_zoo.card import Normalisation
from model_zoo.errors import SRPUError
from training.augmentation.config import NO_AUGMENTATION, Augmentation
from training.config_errors import sentences
from training.settings_block import SettingsBlock, setting

ENVIRONMENT_PREFIX = "SRPU_TRAINING__"
"""`SRPU_TRAINING__AUGMENTATION__NOISE=0.05` sets `augmentation.noise`."""
COMMAND_LINE = "command line"
PRESETS = Path(__file__).parent / "presets"


class BadConfig(SRPUError):
    """A training configuration that cannot be used; the message has one sentence per field."""


Auto = Literal["auto"]
"""Follow the device; see `training.fitting.hardware`."""
Mode = Literal["scratch", "finetune_frozen", "finetune_differential"]
"""How a training treats the encoder."""


class TrainingConfig(SettingsBlock):
    """Everything that decides a training, but for the data. Recorded in the model's card."""

    encoder: str = "resnet34"
    """An encoder of segmentation_models_pytorch, or `tu-<timm model>`."""
    decoder: str = "unet"
    """`unet`, `unetplusplus`, `fpn`, `deeplabv3plus` or `dpt`."""
    weights: str = "imagenet"
    """Of the encoder to begin with: `imagenet`, `none`, or the path of a `.safetensors` file."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the architecture."""
    input_depth: int = setting(1, "1, 3 or 5", ge=1)
    """Neighbouring frames of a sequence that are looked at together; odd, 1 = single images."""
    normalisation: Normalisation = Normalisation()
    """How raw intensities become network input, in training and in serving."""
    augmentation: Augmentation = Augmentation()
    """Random changes of the crops."""
    validation_augmentation: Augmentation = NO_AUGMENTATION
    """Changes of the validation images before they are scored during training, the same each time."""

    mode: Literal["auto", Mode] = "auto"
    """`scratch`: random weights, one rate. `finetune_frozen`: only decoder and head learn.
    `finetune_differential`: a pre-trained encoder learns too, more slowly. `auto`:
    `finetune_differential` where pre-trained weights were loaded, else `scratch`."""
    unfreeze_at: float | None = setting(None, "0.3", ge=0, le=1)
    """Share of the budget after which a frozen encoder learns too; unset: never."""

    crop: Annotated[int, Field(ge=32, le=4096)] | Auto = setting("auto", "256 or 512")
    """Side of a training crop in px; a multiple of the network's stride, 32 as a rule. `auto`: 256 on a CPU,
    512 on a GPU of 8 GiB or more."""
    tile: int = setting(512, "512 or 1024", ge=32, le=8192)
    """Side in px of the tiles that the finished model cuts an image into."""
    batch_size: Annotated[int, Field(ge=2, le=4096)] | Auto = setting("auto", "4 on a CPU, 8 to 32 on a GPU")
    """Crops a step, over all processes; halved, with a warning, when memory does not suffice. `auto`: 4 on a
    CPU, by its memory on a GPU."""
    minutes: float = setting(5.0, "2 to 60", gt=0)
    """Time budget of the steps; reading images and exporting the model come on top."""
    max_steps: int | None = setting(None, "500 to 20000", ge=1)
    """Bound on the steps, if any; the budget that is used up first ends the training."""
    foreground_crops: float = setting(1 / 3, "0.33", ge=0, le=1)
    """Share of crops that are centred on one of the rarer classes, each of them equally often."""

    lr: float = setting(1e-3, "1e-4 to 1e-3", gt=0, le=1)
    """AdamW's learning rate of the decoder and the head, at its highest."""
    encoder_lr_scale: float = setting(0.1, "0.1", gt=0, le=1)
    """The encoder learns at this multiple of `lr` when its weights are pre-trained, else at `lr`."""
    layer_decay: float = setting(1.0, "1 for convolutions, 0.65 to 0.9 for vision transformers", gt=0, le=1)
    """Each block of a pre-trained encoder learns at this multiple of the rate of the block above it."""
    weight_decay: float = setting(1e-2, "1e-4 to 5e-2", ge=0)
    """AdamW's, of the weights of convolutions and linear layers."""
    warmup: float = setting(0.05, "0.02 to 0.1", ge=0, lt=1)
    """Share of the budget over which the learning rate rises, before it falls along a cosine."""
    gradient_norm: float = setting(1.0, "1", gt=0)
    """Gradients longer than this (L2, over all weights) are shortened to it."""
    ema_decay: float = setting(0.99, "0.99 for hundreds of steps, 0.999 for ten thousand", ge=0, lt=1)
    """Of the moving average of the weights, which is the result; smaller during the first steps."""
    class_weight_cap: float = setting(3.0, "1 (all equal) to 10", ge=1)
    """How many times more a pixel of a rare class may count than one of the most frequent class."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; `auto`: bfloat16 on a GPU, and on a CPU with AMX or AVX-512 BF16; else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the first GPU there is, else the CPU."""
    threads: int | None = setting(None, "the number of cores", ge=1)
    """CPU threads of the arithmetic; unset: torch decides."""
    workers: Annotated[int, Field(ge=0)] | Auto = setting("auto", "0 on a CPU, 4 to 8 with a GPU")
    """Processes that prepare crops; `auto`: none on a CPU, up to eight with a GPU."""
    compile: bool | Auto = "auto"
    """Compile the network with torch.compile, which takes a minute or two; `auto`: on a GPU, from 20 minutes
    on."""
    devices: int = setting(1, "the number of GPUs", ge=1, le=1024)
    """Processes on each machine that share the training: one a GPU, or that many on the CPU."""
    nodes: int = setting(1, ge=1, le=1024)
    """Machines that share it; each is started with the same command, and told of the others by MASTER_ADDR,
    MASTER_PORT and NODE_RANK."""
    sync_norms: bool = True
    """Batch norms look at the crops of all GPUs together, as one process would; never on CPUs."""
    validation: Literal["none", "holdout"] = "none"
    """`holdout`: images of the manifest's part `holdout` choose the weights that are kept. Never where that
    holdout is to judge the model afterwards."""
    validate_every: float = setting(0.1, "0.05 to 0.25", gt=0, le=1)
    """Share of the budget between two validations."""
    validation_images: int = setting(16, "8 to 50", ge=1)
    """Images that are looked at in a validation, at most."""
    keep_checkpoints: bool = False
    """Leave `checkpoints/last.ckpt`, and `best.ckpt` of the validation, when the training is done."""
    memory_mb: int = setting(2048, "1024 to 16384", ge=0)
    """Decoded images kept in memory, in MiB; the others are mapped from disk."""
    clock: Literal["wall", "processor"] = "wall"
    """What `minutes` are counted by: the clock on the wall, or this process's processor time divided by its
    threads, which is the same on an idle machine and fair on a shared one."""
    checkpoint_seconds: float = setting(30.0, "30 to 300", ge=0)
    """Between two checkpoints: what a killed training loses at most."""
    seed: int = setting(0, ge=0)
    """Same seed, data, configuration and machine: same model, as far as `max_steps` and not time ends it."""

    @model_validator(mode="after")
    def _mode_has_its_weights(self) -> TrainingConfig:
        if self.mode == "scratch" and self.weights != "none":
            raise ValueError(
                f"`mode` is scratch, which begins with random weights, but `weights` is {self.weights}; set "
                "`weights` to none, or `mode` to finetune_differential"
            )
        if self.mode.startswith("finetune") and self.weights == "none":
            raise ValueError(
                f"`mode` is {self.mode}, but `weights` is none, and a random encoder has nothing to keep; "
                "set `weights` to imagenet or a file, or `mode` to scratch"
            )
        if self.unfreeze_at is not None and self.mode != "finetune_frozen":
            raise ValueError(
                f"`unfreeze_at` is {self.unfreeze_at}, but `mode` is {self.mode}, in which nothing is "
                "frozen; set `mode` to finetune_frozen"
            )
        return self

    @model_validator(mode="after")
    def _depth_is_odd(self) -> TrainingConfig:
        if self.input_depth % 2 == 0:
            raise ValueError("`input_depth` must be odd, so that there is a middle frame; try 1, 3 or 5")
        return self


def presets() -> tuple[str, ...]:
    """Names that `load_config` takes."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


@dataclass(frozen=True)
class Resolved:
    """A configuration, and where its values come from."""

    config: TrainingConfig
    origins: Mapping[str, str]
    """By dotted name, of what is not a built-in default: `preset gpu`, the name of an environment variable,
    or `command line`."""

    def as_json(self) -> str:
        """Both, as one line of JSON."""
        return json.dumps({"config": self.config.model_dump(mode="json"), "origins": dict(self.origins)})


def load_config(
    preset: str = "default",
    overrides: Mapping[str, Any] | Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> TrainingConfig:
    """The configuration of `resolve`, without its origins."""
    return resolve(preset, overrides, environment).config


def resolve(
    preset: str = "default",
    overrides: Mapping[str, Any] | Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Resolved:
    """The preset (a name, or the path of a YAML file), the environment over it, and `overrides` over both.

    Of `environment` the variables named `SRPU_TRAINING__…` count. `overrides` are a mapping, nested or with
    dotted keys (`{"augmentation.noise": 0}`), or texts such as `augmentation.noise=0`; texts are read as
    YAML. To ask for `mode: scratch` over a preset's weights is to ask for none. Raises `BadConfig` with one
    sentence per problem.
    """
    values = _read_preset(preset)
    origins = dict.fromkeys(_leaves(values), f"preset {preset}")
    for name, value, origin in _settings(overrides, environment or {}):
        _merge(values, name, value)
        origins |= dict.fromkeys(_leaves({name: value}), origin)
    if values.get("mode") == "scratch" and _strength(origins["mode"]) > _strength(origins.get("weights", "")):
        values["weights"], origins["weights"] = "none", "mode: scratch"
    try:
        return Resolved(TrainingConfig.model_validate(values), origins)
    except ValidationError as error:
        raise BadConfig(" ".join(sentences(error, TrainingConfig, origins))) from None


def _read_preset(preset: str) -> dict[str, Any]:
    path = PRESETS / f"{preset}.yaml"
    if preset not in presets():
        path = Path(preset)
        if path.suffix not in (".yaml", ".yml") or not path.is_file():
            raise BadConfig(
                f"There is no preset {preset!r}; use {', '.join(presets())}, or the path of a YAML file."
            )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"The preset {path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise BadConfig(f"The preset {path} must consist of lines such as `minutes: 5`.")
    return values


def _settings(
    overrides: Mapping[str, Any] | Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value and origin of each setting, the weakest first."""
    for variable in sorted(environment):
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            yield name, _yaml(environment[variable], f"{variable}={environment[variable]}"), variable
    if isinstance(overrides, Mapping):
        yield from ((name, value, COMMAND_LINE) for name, value in overrides.items())
        return
    for text in overrides:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise BadConfig(f"`{text}` sets nothing; write `name=value`, such as `minutes=2`.")
        yield name.strip(), _yaml(value, text), COMMAND_LINE


def _yaml(value: str, text: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise BadConfig(f"The value in `{text}` cannot be read; quote it as YAML would.") from None


def _strength(origin: str) -> int:
    """The stronger wins: built-in default, preset, environment, command line."""
    if origin == COMMAND_LINE:
        return 3
    return 2 if origin.startswith(ENVIRONMENT_PREFIX) else int(bool(origin))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all that is set."""
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in ("options", "more"):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _merge(values: dict[str, Any], name: str, value: Any) -> None:
    """Set the dotted `name`; a mapping is merged into one that is there."""
    first, _, rest = name.partition(".")
    if rest:
        inner = values.get(first)
        inner = dict(inner) if isinstance(inner, Mapping) else {}
        _merge(inner, rest, value)
        values[first] = inner
    elif isinstance(value, Mapping) and isinstance(values.get(first), Mapping):
        values[first] = {**values[first], **value}
    else:
        values[first] = value
