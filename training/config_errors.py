"""What pydantic finds wrong with a configuration, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_PLAINER = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "model_type": "a block of settings, such as {noise: 0.05}",
    "dict_type": "a block of settings, such as {name: value}",
}  # pydantic's own words for these are a programmer's


def sentences(error: ValidationError, model: type[BaseModel], origins: Mapping[str, str]) -> Iterator[str]:
    """One for each setting: `` `lr` is -1; it must be greater than 0; typical: 1e-4 to 1e-3. ``

    `origins` says where dotted names were set; one that is not where the reader looks is told.
    """
    several: dict[str, list[Mapping[str, Any]]] = {}
    for problem in error.errors():
        path = _within_fields(problem["loc"], model)
        several.setdefault(".".join(path), []).append({**problem, "path": path})
    for name, problems in several.items():
        sentence = _sentence(name, problems, model)
        origin = origins.get(name, "")
        yield f"{sentence} (It is set by {origin}.)" if origin.isupper() else sentence


def names_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All settings, dotted, in order; a block is followed by what is in it."""
    names = []
    for name, info in model.model_fields.items():
        names.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names += names_of(info.annotation, f"{prefix}{name}.")
    return names


def field_of(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    """The field that a dotted name, split, leads to."""
    block: Any = model
    info: FieldInfo | None = None
    for part in path:
        info = getattr(block, "model_fields", {}).get(part)
        block = info.annotation if info else None
    return info


def typical(info: FieldInfo | None) -> str:
    """The value a reader should try first; empty where any will do."""
    extra = info.json_schema_extra if info else None
    return str(extra.get("typical", "")) if isinstance(extra, dict) else ""


def _within_fields(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """`location` up to the setting: what follows names a branch of a union, or a place in a list."""
    path = [str(part) for part in location]
    while len(path) > 1 and field_of(model, path) is None and field_of(model, path[:-1]) is not None:
        annotation = getattr(field_of(model, path[:-1]), "annotation", None)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            break  # a setting that does not exist, of a block that does
        path.pop()
    return path


def _sentence(name: str, problems: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> str:
    problem = problems[0]
    if problem["type"] == "extra_forbidden":
        close = get_close_matches(name, names_of(model), n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(model.model_fields)}."
        return f"There is no setting `{name}`; {hint}"
    if problem["type"] == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ") + "."
    must = " or ".join(dict.fromkeys(_must(found) for found in problems))
    example = typical(field_of(model, problem["path"]))
    return f"`{name}` is {problem['input']!r}; it must be {must}{f'; typical: {example}' if example else ''}."


def _must(problem: Mapping[str, Any]) -> str:
    return _PLAINER.get(problem["type"], str(problem["msg"]).removeprefix("Input should be "))
