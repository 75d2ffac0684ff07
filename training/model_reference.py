"""What a person calls a model, and the folder that is meant."""

from __future__ import annotations

import os
from pathlib import Path

from model_zoo.card import CARD_NAME
from model_zoo.errors import SRPUError
from model_zoo.registry import Registry

MODEL_DIR_VARIABLE = "MODEL_DIR"
CHAMPION = "champion"
REFERENCES = "a version's folder, a run of `train`, the --out of `pipeline`, or PROJECT/VERSION of MODEL_DIR"
_INNER = "model"
_MOST_LISTED = 8


class UnknownModel(SRPUError):
    """A reference that stands for no model; the message lists those there are."""


def find_model(text: str | Path, model_dir: Path | None = None) -> Path:
    """The folder with the card.json that `text` stands for.

    A folder that has one, or whose `model/` has one (the `--out` of `pipeline`); else `<project>` or
    `<project>/champion` for the champion of a project, or `<project>/<version>`, among those of `model_dir`
    (default: the environment's MODEL_DIR). Raises `UnknownModel`, or `UnknownVersion` for a project without
    that version.
    """
    path = Path(text).expanduser()
    for folder in (path, path / _INNER):
        if (folder / CARD_NAME).is_file():
            return folder
    root = model_dir or _model_dir_of_environment()
    project, _, version = str(text).strip("/").partition("/")
    if not path.is_dir() and root is not None and project in _projects(root):
        return _of_registry(Registry(_registry_root(root, project)), project, version or CHAMPION)
    raise UnknownModel(f"{text} is not a model: {_why_not(path)}; {_what_there_is(path, root)}.")


def _of_registry(registry: Registry, project: str, version: str) -> Path:
    if version != CHAMPION:
        return registry.folder(version)
    champion = registry.champion()
    if champion is None:
        known = ", ".join(f"{project}/{name}" for name in registry.versions()) or "none yet"
        raise UnknownModel(f"Project {project} has no champion yet; its versions: {known}.")
    return registry.folder(champion)


def _model_dir_of_environment() -> Path | None:
    value = os.environ.get(MODEL_DIR_VARIABLE)
    return Path(value) if value else None


def _registry_root(root: Path, project: str) -> Path:
    return root / "projects" / project / "models"


def _projects(root: Path) -> list[str]:
    """Projects that have a version, in order."""
    try:
        names = [folder.name for folder in (root / "projects").iterdir() if folder.is_dir()]
    except OSError:
        return []
    with_versions = (name for name in names if Registry(_registry_root(root, name)).versions())
    return sorted(with_versions, key=lambda name: (len(name), name))


def _why_not(path: Path) -> str:
    if not path.exists():
        return "there is no such folder or project"
    if not path.is_dir():
        return "it is a file, give the folder it lies in"
    if (path / "checkpoints").is_dir():
        return f"its training has not ended ({CARD_NAME} comes last), start it again to go on"
    return f"it has no {CARD_NAME}"


def _what_there_is(path: Path, root: Path | None) -> str:
    """Models near by: below the folder, beside the missing one, and in MODEL_DIR."""
    folder = path if path.is_dir() else path.parent
    near = [str(found) for found in _models_below(folder)]
    if root is not None:
        near += [
            f"{project}/{version}"
            for project in _projects(root)
            for version in reversed(Registry(_registry_root(root, project)).versions())
        ]
    if not near:
        return f"give {REFERENCES}"
    more = f" and {len(near) - _MOST_LISTED} more" if len(near) > _MOST_LISTED else ""
    return f"models there are: {', '.join(near[:_MOST_LISTED])}{more}"


def _models_below(folder: Path) -> list[Path]:
    try:
        folders = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []
    return [
        entry for entry in folders if (entry / CARD_NAME).is_file() or (entry / _INNER / CARD_NAME).is_file()
    ]
