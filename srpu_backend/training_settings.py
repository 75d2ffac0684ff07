"""What decides a project's trainings: the preset, and who may change it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from model_zoo.errors import SRPUError
from srpu_backend.children import TrainingFailed
from srpu_backend.projects import Project
from srpu_backend.settings import Settings
from training.config import TrainingConfig, load_config

STRATEGY, LABEL_BATCH = "strategy", "label_batch"
"""Parameters of a project that are none of its trainings'; see `ranking`."""


def training_overrides(project: Project, settings: Settings) -> dict[str, Any]:
    """SRPU_TRAINING, changed by the label config's `model_…`, changed by the parameters of the model.

    Raises `TrainingFailed` where SRPU_TRAINING is no JSON object, `BadLabelConfig`.
    """
    try:
        overrides = json.loads(settings.training_overrides or "{}")
    except ValueError:
        overrides = None
    if not isinstance(overrides, dict):
        raise TrainingFailed('SRPU_TRAINING must be a JSON object such as {"minutes": 2}.', bad_input=True)
    parameters = {k: v for k, v in project.parameters.items() if k not in (STRATEGY, LABEL_BATCH)}
    asked = {**overrides, **settings_in(project.label_config.parameters), **parameters}
    return {**asked, "validation": "none"}  # the holdout is the gate's: it must never steer a training


def settings_in(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The `model_…` attributes of a label config that are settings of a training: `model_input_depth="3"`."""
    named = {name.removeprefix("model_"): text for name, text in parameters.items()}
    known = TrainingConfig.model_fields
    return {name: _read(text) for name, text in named.items() if name.partition(".")[0] in known}


def snapshot_depth(project: Project, settings: Settings, environment: Mapping[str, str]) -> int:
    """Frames of a stack that a snapshot must hold: what is asked for, and what the champion looks at.

    Raises `BadConfig`, and what `training_overrides` raises.
    """
    asked = load_config(settings.preset, training_overrides(project, settings), environment).input_depth
    champion = project.registry.champion()
    try:
        known = project.registry.card(champion).spec.input_depth if champion else 1
    except (SRPUError, OSError):  # a champion that cannot be read will not be measured either
        known = 1
    return max(asked, known)


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
