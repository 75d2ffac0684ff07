"""How a model is trained: one strict record, from a preset and what is set on top of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from model_zoo.card import Normalisation
from model_zoo.errors import SRPUError
from training.augmentation.config import Augmentation
from training.settings_block import SettingsBlock, setting

_PLAINER = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "model_type": "a block of settings, such as {noise: 0.05}",
    "dict_type": "a block of settings, such as {decoder_channels: [256, 128, 64, 32, 16]}",
}  # pydantic's own words for these are a programmer's

PRESETS = Path(__file__).parent / "presets"


class BadConfig(SRPUError):
    """A training configuration that cannot be used; the message has one sentence per field."""


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

    mode: Literal["auto", "scratch", "finetune_frozen", "finetune_differential"] = "auto"
    """`scratch`: random weights, one rate. `finetune_frozen`: only decoder and head learn.
    `finetune_differential`: the encoder learns too, its lower layers the slowest. `auto`:
    `finetune_differential` where pre-trained weights were loaded, else `scratch`."""

    crop: int = setting(256, "256 or 512", ge=32, le=4096)
    """Side of a training crop in px; a multiple of the network's stride, 32 as a rule."""
    tile: int = setting(512, "512 or 1024", ge=32, le=8192)
    """Side in px of the tiles that the finished model cuts an image into."""
    batch_size: int = setting(4, "4 on a CPU, 8 to 32 on a GPU", ge=2, le=4096)
    """Crops a step; halved, with a warning, when memory does not suffice."""
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
    """Of the arithmetic; `auto`: bfloat16 on a GPU, and on a CPU with AMX; else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the first GPU there is, else the CPU."""
    threads: int | None = setting(None, "the number of cores", ge=1)
    """CPU threads of the arithmetic; unset: torch decides."""
    workers: int | None = setting(None, "0 on a CPU, 4 to 8 with a GPU", ge=0)
    """Processes that prepare crops; unset: none on a CPU, up to eight with a GPU."""
    memory_mb: int = setting(2048, "1024 to 16384", ge=0)
    """Decoded images kept in memory, in MiB; the others are mapped from disk."""
    checkpoint_seconds: float = setting(30.0, "30 to 300", ge=0)
    """Between two checkpoints: what a killed training loses at most."""
    seed: int = setting(0, ge=0)
    """Same seed, data, configuration and machine: same model, as far as `max_steps` and not time ends it."""

    @model_validator(mode="after")
    def _depth_is_odd(self) -> TrainingConfig:
        if self.input_depth % 2 == 0:
            raise ValueError("`input_depth` must be odd, so that there is a middle frame; try 1, 3 or 5")
        return self


def presets() -> tuple[str, ...]:
    """Names that `load_config` takes."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))


def load_config(preset: str = "default", overrides: Mapping[str, Any] | Sequence[str] = ()) -> TrainingConfig:
    """The configuration of a preset (a name, or the path of a YAML file) with `overrides` on top.

    `overrides` are a mapping, nested or with dotted keys (`{"augmentation.noise": 0}`), or texts such as
    `augmentation.noise=0`, whose values are read as YAML. Raises `BadConfig` with one sentence per problem.
    """
    values = _read_preset(preset)
    for name, value in _pairs(overrides):
        _merge(values, name, value)
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise BadConfig(" ".join(_sentence(problem) for problem in error.errors())) from None


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


def _pairs(overrides: Mapping[str, Any] | Sequence[str]) -> Iterable[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        yield from overrides.items()
        return
    for text in overrides:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise BadConfig(f"`{text}` sets nothing; write `name=value`, such as `minutes=2`.")
        try:
            yield name.strip(), yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadConfig(f"The value in `{text}` cannot be read; quote it as YAML would.") from None


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


def _sentence(problem: Mapping[str, Any]) -> str:
    """What pydantic found, for people: `` `lr` is -1; it must be greater than 0; typical: 1e-4 to 1e-3. ``"""
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "extra_forbidden":
        close = get_close_matches(name, _names(), n=1, cutoff=0.5)
        hint = (
            f"did you mean `{close[0]}`?" if close else f"there are {', '.join(TrainingConfig.model_fields)}."
        )
        return f"There is no setting `{name}`; {hint}"
    message = str(problem["msg"])
    if problem["type"] == "value_error":
        return message.removeprefix("Value error, ") + "."
    must = _PLAINER.get(problem["type"], message.removeprefix("Input should be "))
    typical = _typical(path)
    return f"`{name}` is {problem['input']!r}; it must be {must}{f'; typical: {typical}' if typical else ''}."


def _names(model: type[BaseModel] = TrainingConfig, prefix: str = "") -> list[str]:
    names = []
    for name, info in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names += _names(info.annotation, f"{prefix}{name}.")
    return names


def _typical(path: Sequence[str]) -> str:
    model: Any = TrainingConfig
    info: FieldInfo | None = None
    for part in path:
        info = getattr(model, "model_fields", {}).get(part)
        model = info.annotation if info else None
    extra = info.json_schema_extra if info else None
    return str(extra.get("typical", "")) if isinstance(extra, dict) else ""
