"""What every block of settings is: strict, immutable, with a typical value beside each bound."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SettingsBlock(BaseModel):
    """A part of the configuration; the text under each field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def setting(default: Any, typical: str = "", **bounds: Any) -> Any:
    """A field whose error message says what is typical."""
    if not isinstance(default, str | dict):  # pydantic asks whether a text such as `auto` is finite, too
        bounds["allow_inf_nan"] = False
    return Field(default=default, json_schema_extra={"typical": typical}, **bounds)
