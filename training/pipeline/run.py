"""From folders to a model: index, check, measure, rehearse, train, report.

With few labels, an image that only judges is one that teaches nothing. So they are used twice: a rehearsal, a
short training without some of the groups, tells on those what to expect and which normalisation to take; then
the model is trained on all labels for the rest of the time. Given the same command again, it goes on where it
was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from model_zoo.card import Frozen, ModelCard
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from training.config import TrainingConfig
from training.data.check import check_manifests
from training.data.classes_file import ClassList
from training.data.findings import Finding, Findings
from training.data.index import LABELED_NAME, IndexOptions, IndexSummary, build_index
from training.data.manifest import Manifest
from training.data.manifest_stream import read_class_infos, read_samples
from training.data.scan import Folders
from training.data.split import ALL_NAME, SplitOptions, split_index
from training.data.statistics import STATISTICS_NAME, DatasetStatistics, measure
from training.pipeline.rehearsal import Kind, Rehearsal, choose, rehearse
from training.progress import Progress

SUMMARY_NAME = "summary.json"
HELD_OUT_SHARE = 0.25
REHEARSED_SHARE = 0.12
"""Of the minutes, for each rehearsal."""
FEWEST_GROUPS = 4
"""Of labelled images, below which none is held out: one image is no judge."""
SHORTEST_REHEARSAL = 0.25
"""Minutes: a model that has hardly begun to learn cannot be compared."""

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


class NothingLabelled(SRPUError):
    """Folders without one usable pair of image and mask."""


@dataclass(frozen=True)
class PipelineOptions:
    """What to make a model of."""

    folders: Folders
    classes: ClassList | None
    out: Path
    config: TrainingConfig
    """`minutes` bounds all trainings together."""
    index: IndexOptions = field(default_factory=IndexOptions)
    choose_normalisation: bool = True
    """False: the configuration's, whatever the rehearsal would say."""


class PipelineSummary(Frozen):
    """What came out: `summary.json`, and what `--json` prints."""

    model: str
    """Folder of the finished model."""
    labeled: int
    unlabeled: int
    held_out_images: int
    """That judged the rehearsal; 0 where there were too few groups or minutes for one."""
    held_out_miou: float | None
    """Of the rehearsal, in [0, 1]: what to expect at least. The model itself has seen all labels."""
    held_out_iou: dict[str, float | None]
    normalisation: Kind
    steps: int
    seconds: float
    """Of the training of the model."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PipelineResult:
    """Everything a report tells."""

    summary: PipelineSummary
    statistics: DatasetStatistics
    rehearsals: tuple[Rehearsal, ...]
    chosen: Rehearsal | None
    """The rehearsal whose normalisation was taken; None where there was none."""
    card: ModelCard


def run_pipeline(
    options: PipelineOptions,
    findings: Findings,
    report: Report = lambda what, done, total: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> PipelineResult:
    """Make a model in `options.out/model`; what is wrong with single files goes to `findings`.

    Raises `NothingLabelled`, `BadFolder`, and what `training.supervised.train` raises.
    """
    from training.supervised import train

    folder = options.out / "index"
    indexed = build_index(options.folders, options.classes, folder, options.index, findings, report)
    if not indexed.labeled:
        raise NothingLabelled(_why_nothing_is_labelled(indexed, findings))
    check_manifests([folder / LABELED_NAME], findings, report)
    statistics = measure(
        read_samples(folder / LABELED_NAME),
        read_class_infos(folder / LABELED_NAME),
        "train",
        findings,
        report,
    )
    statistics.write(folder / STATISTICS_NAME)
    labelled = Manifest.read(folder / LABELED_NAME)
    rehearsals = _rehearsals(options, labelled, findings, report, progress)
    chosen = choose(rehearsals, options.config.seed) if rehearsals else None
    config = _final_config(options.config, chosen, len(rehearsals))
    card = train(labelled, config, options.out / "model", progress)
    summary = _summary(options, indexed, chosen, card, findings)
    write_atomically(options.out / SUMMARY_NAME, summary.model_dump_json(indent=1).encode())
    return PipelineResult(summary, statistics, tuple(rehearsals), chosen, card)


def _rehearsals(
    options: PipelineOptions,
    labelled: Manifest,
    findings: Findings,
    report: Report,
    progress: Callable[[Progress], None],
) -> list[Rehearsal]:
    """One with the normalisation that was asked for, one with the other; none where they could not tell."""
    kinds = _kinds(options)
    minutes = REHEARSED_SHARE * options.config.minutes
    groups = len({sample.group for sample in labelled.samples})
    if groups < FEWEST_GROUPS or minutes < SHORTEST_REHEARSAL:
        findings.add(_no_rehearsal(groups, options.config.minutes))
        return []
    folder = options.out / "index"
    split_index(
        folder / LABELED_NAME,
        folder,
        SplitOptions(HELD_OUT_SHARE, 0.0, options.config.seed),
        findings,
        report,
    )
    manifest = Manifest.read(folder / ALL_NAME)
    config = options.config.model_copy(update={"minutes": minutes})
    return [rehearse(manifest, config, kind, options.out / "rehearsals" / kind, progress) for kind in kinds]


def _kinds(options: PipelineOptions) -> tuple[Kind, ...]:
    asked = options.config.normalisation.kind
    other: Kind = "range" if asked == "percentile" else "percentile"
    return (asked, other) if options.choose_normalisation else (asked,)


def _no_rehearsal(groups: int, minutes: float) -> Finding:
    if groups < FEWEST_GROUPS:
        message = f"the labelled images form {groups} groups, too few to hold any out and judge by them."
        fix = f"Label images of {FEWEST_GROUPS} specimens or sequences or more, to know what to expect."
    else:
        message = f"{minutes:g} minutes are too few to try the recipe before the training."
        fix = f"Give {SHORTEST_REHEARSAL / REHEARSED_SHARE:.0f} minutes or more, to know what to expect."
    return Finding(kind="no-rehearsal", severity="warning", where="pipeline", message=message, fix=fix)


def _final_config(config: TrainingConfig, chosen: Rehearsal | None, rehearsed: int) -> TrainingConfig:
    """With the normalisation that was chosen, for the rest of the minutes."""
    if chosen is None:
        return config
    normalisation = config.normalisation.model_copy(update={"kind": chosen.normalisation})
    minutes = config.minutes * (1 - rehearsed * REHEARSED_SHARE)
    return config.model_copy(update={"minutes": minutes, "normalisation": normalisation})


def _why_nothing_is_labelled(indexed: IndexSummary, findings: Findings) -> str:
    reason = f" The first problem: {findings.kept[0]}" if findings.kept else ""
    return (
        f"None of the {indexed.unlabeled} images has a mask that could be read, so there is nothing to learn "
        f"from; a mask is called like its image (alloy-7.tif, alloy-7.png).{reason}"
    )


def _summary(
    options: PipelineOptions,
    indexed: IndexSummary,
    chosen: Rehearsal | None,
    card: ModelCard,
    findings: Findings,
) -> PipelineSummary:
    judged = chosen.evaluation if chosen else None
    return PipelineSummary(
        model=str(options.out / "model"),
        labeled=indexed.labeled,
        unlabeled=indexed.unlabeled,
        held_out_images=len(judged.images) if judged else 0,
        held_out_miou=judged.miou if judged else None,
        held_out_iou=judged.iou if judged else {},
        normalisation=card.normalisation.kind,
        steps=card.metrics["steps"],
        seconds=card.metrics["seconds"],
        warnings=(*card.metrics["warnings"], *map(str, findings.kept)),
    )
