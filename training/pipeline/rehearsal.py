"""Short trainings without some of the labelled groups: what to expect, and which normalisation to take.

How intensities are normalised decides more about a micrograph model than its network, and neither way is
always the better one: an image stretched to its own range forgets brightness that means nothing, and also
brightness that means something. So both are tried on groups that were held out. What was asked for remains
unless the other is clearly better: a handful of images is easily won by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from model_zoo.card import Frozen
from model_zoo.files import write_atomically
from model_zoo.inference import Predictor
from training.config import TrainingConfig
from training.data.manifest import Manifest
from training.gate import judge
from training.progress import Progress
from training.scoring.answers import ModelAnswers
from training.scoring.boundary import TOLERANCE_PX
from training.scoring.evaluation import Evaluation, measure

Kind = Literal["percentile", "range"]
RESULT_NAME = "rehearsal.json"
CLEAR_GAIN = 0.02
"""Gain in mIoU from which on the other normalisation is taken …"""
CLEAR_DRAWS = 0.9
"""… where it is a gain in this share of the bootstrap's draws, too."""


class Rehearsal(Frozen):
    """One short training, and how it did on the held-out groups."""

    normalisation: Kind
    minutes: float
    evaluation: Evaluation


def rehearse(
    manifest: Manifest,
    config: TrainingConfig,
    kind: Kind,
    out: Path,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Rehearsal:
    """Train on the part `train` with that kind of normalisation and score on `holdout`; done once per `out`.

    Raises what `training.supervised.train` raises.
    """
    from training.supervised import train

    normalisation = config.normalisation.model_copy(update={"kind": kind})
    config = config.model_copy(update={"normalisation": normalisation})
    card = train(manifest, config, out, report)
    answers = ModelAnswers(Predictor.load(out), manifest.classes)
    evaluation = measure(answers, manifest, "holdout", boundary_tolerance=TOLERANCE_PX)
    result = Rehearsal(normalisation=kind, minutes=card.metrics["seconds"] / 60, evaluation=evaluation)
    write_atomically(out / RESULT_NAME, result.model_dump_json(indent=1).encode())
    return result


def choose(rehearsals: Sequence[Rehearsal], seed: int = 0) -> Rehearsal:
    """The rehearsal whose normalisation is to be used: the first, unless another is clearly better."""
    chosen, *others = rehearsals
    for other in others:
        verdict = judge(chosen.evaluation, other.evaluation, min_images=1, seed=seed)
        gain, worse = verdict.difference or 0.0, 1.0 if verdict.worse is None else verdict.worse
        if gain > CLEAR_GAIN and worse <= 1 - CLEAR_DRAWS:
            chosen = other
    return chosen
