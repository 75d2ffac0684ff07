"""A configuration as YAML that explains itself."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from training.config_errors import typical

CONFIG_NAME = "config.yaml"
_WIDTH = 100
_BUILT_IN = "built-in default"


def commented(config: BaseModel, origins: Mapping[str, str]) -> str:
    """`config` as YAML that `--preset FILE` takes, each setting below its documentation and beside its
    origin; `origins` are by dotted name, see `training.config.Resolved`."""
    return "\n".join(_lines(config, origins, "")) + "\n"


def _lines(block: BaseModel, origins: Mapping[str, str], prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, info in type(block).model_fields.items():
        value = getattr(block, name)
        example = typical(info)
        text = " ".join((info.description or "").split())
        text += f" Typical: {example}." if example else ""
        for line in textwrap.wrap(text, _WIDTH - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, origins, f"{prefix}{name}.")
        else:
            yield f"{indent}{name}: {_value(value)}  # {origins.get(prefix + name, _BUILT_IN)}"
        if not prefix:
            yield ""


def _value(value: Any) -> str:
    """On one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
