"""From manifests, statistics, cards and evaluations to what the page shows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from model_zoo.card import ClassInfo, ModelCard
from training.data.findings import Findings
from training.data.manifest import Part, Sample
from training.data.statistics import DatasetStatistics
from training.overlays import class_colors, clear_classes
from training.report.content import (
    ClassShare,
    DatasetSection,
    EvaluationSection,
    Fact,
    TrainingSection,
)
from training.scoring.bootstrap import Interval
from training.scoring.evaluation import Evaluation
from training.scoring.scores import Scores

_FEW_GROUPS = 5
_MOST_FINDINGS = 30


def verdict(evaluation: Evaluation, scores: Scores) -> str:
    """One sentence on how good the answers are."""
    images = f"{scores.images} {_of(evaluation)}image{'' if scores.images == 1 else 's'}"
    if scores.miou.value is None:
        return f"There is nothing to judge on: {images} with a labelled pixel."
    sentence = f"On {images} the mIoU is {_with_interval(scores.miou.value, scores.miou.interval)}"
    weakest = weakest_class(scores)
    if weakest is None:
        return f"{sentence}."
    return f"{sentence}; the weakest class is {weakest[0]} with an IoU of {_percent(weakest[1])}."


def weakest_class(scores: Scores) -> tuple[str, float] | None:
    """Name and IoU of the class of the truth with the lowest; None where there are fewer than two."""
    known = [
        (of.iou.value, of.name)
        for of in scores.classes
        if of.iou.value is not None and of.recall.value is not None
    ]
    if len(known) < 2:
        return None
    iou, name = min(known)
    return name, iou


def evaluation_section(
    evaluation: Evaluation, classes: Sequence[ClassInfo], about: str = "", scores: Scores | None = None
) -> EvaluationSection:
    """The scores and what to keep in mind; `scores` are computed where they are not at hand."""
    scores = scores or evaluation.scored()
    return EvaluationSection(
        evaluation,
        scores,
        _hex_colors(classes),
        tuple(clear_classes(classes).tolist()),
        about,
        tuple(_cautions(evaluation, scores)),
    )


def dataset_section(
    classes: Sequence[ClassInfo],
    samples: Sequence[Sample] = (),
    statistics: DatasetStatistics | None = None,
    findings: Findings | None = None,
) -> DatasetSection:
    """What a dataset looks like; statistics and findings where they are known."""
    balance = {of.name: of for of in statistics.classes} if statistics else {}
    shares = [
        ClassShare(info.name, color, balance[info.name].share, balance[info.name].images)
        if info.name in balance
        else ClassShare(info.name, color)
        for info, color in zip(classes, _hex_colors(classes), strict=True)
    ]
    shown = findings.kept[:_MOST_FINDINGS] if findings else ()
    found = sum(findings.counts.values()) if findings else 0
    facts = [*_sample_facts(samples), *(_statistics_facts(statistics) if statistics else ())]
    return DatasetSection(tuple(shares), tuple(facts), shown, found - len(shown))


def training_section(card: ModelCard, curve: Sequence[tuple[int, float]] = ()) -> TrainingSection:
    """How the model of a card was made; `curve` is (step, loss), see `read_loss_curve`."""
    measured = card.metrics
    facts = [
        Fact("network", f"{card.spec.encoder} with {card.spec.decoder}"),
        Fact("encoder began with", _weights(card)),
        Fact("labelled images learnt from", str(card.training_images)),
    ]
    if "steps" in measured:
        facts.append(Fact("steps", f"{measured['steps']}"))
    if "seconds" in measured:
        facts.append(Fact("time", _duration(float(measured["seconds"]))))
    if measured.get("loss") is not None:
        facts.append(Fact("loss at the end", f"{measured['loss']:.3f}"))
    settings = tuple(Fact(name, _setting(value)) for name, value in _flat(card.config))
    warnings = tuple(str(warning) for warning in measured.get("warnings", ()))
    return TrainingSection(tuple(facts), tuple(curve), settings, warnings)


def _cautions(evaluation: Evaluation, scores: Scores) -> Iterator[str]:
    if evaluation.part in ("train", "all"):
        yield "The model may have learnt from these images; on new ones expect less."
    if scores.images == 1:
        yield "One image says nothing of others, so there are no intervals."
    elif scores.groups == 1:
        yield (
            "All images are of one group (a sequence, a specimen), so the intervals tell how much images of "
            "that group differ, and nothing of other groups."
        )
    elif scores.groups < _FEW_GROUPS:
        yield (
            f"There are {scores.groups} groups of images only; with so few, intervals come out too narrow. "
            "Label images of more specimens to know better."
        )
    absent = [of.name for of in scores.classes if of.recall.value is None]
    if absent and scores.images:
        yield f"No image shows {', '.join(absent)}: left out of the means."
    yield from evaluation.problems


def _sample_facts(samples: Sequence[Sample]) -> Iterator[Fact]:
    if not samples:
        return
    parts = Counter(sample.part for sample in samples if sample.mask is not None)
    yield Fact(
        "labelled images",
        ", ".join(f"{parts[part]} {part}" for part in get_args(Part) if parts[part]) or "none",
    )
    unlabelled = sum(sample.mask is None for sample in samples)
    if unlabelled:
        yield Fact("unlabelled images", str(unlabelled))
    yield Fact("groups", str(len({sample.group for sample in samples})))


def _statistics_facts(statistics: DatasetStatistics) -> Iterator[Fact]:
    sizes = list(statistics.sizes.common.items())
    listed = "; ".join(f"{count} of {size.replace('×', ' × ')} px" for size, count in sizes[:4])
    yield Fact("sizes", listed + ("; …" if len(sizes) > 4 else ""))
    for bits, found in statistics.intensities.items():
        spread = f"{found.mean:.0f} ± {found.std:.0f}, {found.minimum} to {found.maximum}"
        yield Fact(f"{bits}-bit intensities", spread)
    if statistics.ignored_share:
        yield Fact("left open in the masks", _percent(statistics.ignored_share))


def _of(evaluation: Evaluation) -> str:
    return "labelled " if evaluation.part == "all" else f"{evaluation.part} "


def _weights(card: ModelCard) -> str:
    loaded = card.weights.loaded
    if loaded == "none":
        return "random weights"
    return loaded if len(loaded) <= 24 else f"weights {loaded[:12]}…"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _setting(value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _hex_colors(classes: Sequence[ClassInfo]) -> tuple[str, ...]:
    return tuple("#{:02x}{:02x}{:02x}".format(*color) for color in class_colors(classes).tolist())


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _with_interval(value: float, interval: Interval | None) -> str:
    if interval is None:
        return _percent(value)
    return f"{_percent(value)} (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
