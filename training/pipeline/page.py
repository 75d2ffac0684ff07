"""The page that a pipeline leaves: how good the model is, what it was made of, how it was made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from model_zoo.inference import Predictor
from training.data.findings import Findings
from training.data.index import LABELED_NAME, UNLABELED_NAME
from training.data.manifest import Manifest, Sample
from training.data.manifest_stream import read_samples
from training.data.split import ALL_NAME
from training.pipeline.rehearsal import Rehearsal
from training.pipeline.run import PipelineResult
from training.report import (
    EvaluationSection,
    Exhibit,
    Fact,
    FileEntry,
    Report,
    dataset_section,
    evaluation_section,
    prediction_pictures,
    read_loss_curve,
    training_section,
    verdict,
    worst_pictures,
    write_report,
)
from training.scoring.answers import ModelAnswers

REPORT_NAME = "report/index.html"
_WORST, _PREDICTED = 6, 6
_MOST_LISTED = 100_000  # of the pool: enough to draw a few pictures from


def write_pipeline_report(result: PipelineResult, out: Path, findings: Findings) -> Path:
    """Write `report/index.html` into `out`, the folder of a finished pipeline; the page's path."""
    labelled = Manifest.read(out / "index" / LABELED_NAME)
    judged = _judged(result.chosen, labelled) if result.chosen else None
    page = out / REPORT_NAME
    page.parent.mkdir(parents=True, exist_ok=True)
    return write_report(
        page,
        Report(
            title="What the model has learnt",
            verdict=_verdict(judged),
            facts=_facts(result),
            evaluation=judged,
            gallery=_worst(result.chosen, out) if result.chosen else (),
            predictions=_predictions(out, labelled),
            dataset=dataset_section(labelled.classes, labelled.samples, result.statistics, findings),
            training=training_section(result.card, read_loss_curve(out / "model")),
            files=_files(out),
            made=datetime.now(UTC),
        ),
    )


def _judged(chosen: Rehearsal, labelled: Manifest) -> EvaluationSection:
    about = (
        f"These images were held out of a rehearsal, a training of {chosen.minutes:.1f} minutes that did not "
        "see them. The model itself was trained for longer, on all labelled images, these included: expect "
        "it to be at least as good on new images of the same kind."
    )
    return evaluation_section(chosen.evaluation, labelled.classes, about)


def _verdict(judged: EvaluationSection | None) -> str:
    if judged is None:
        return "There were too few groups of images, or too few minutes, to hold any out and judge by them."
    return verdict(judged.evaluation, judged.scores)


def _facts(result: PipelineResult) -> tuple[Fact, ...]:
    summary = result.summary
    facts = [
        Fact("labelled images", f"{summary.labeled}"),
        Fact("without a mask", f"{summary.unlabeled}"),
        Fact("normalisation", summary.normalisation),
    ]
    for tried in result.rehearsals:
        score = "–" if tried.evaluation.miou is None else f"{100 * tried.evaluation.miou:.1f} %"
        facts.append(Fact(f"rehearsal with {tried.normalisation}", f"mIoU {score}"))
    return tuple(facts)


def _worst(chosen: Rehearsal, out: Path) -> tuple[Exhibit, ...]:
    manifest = Manifest.read(out / "index" / ALL_NAME)
    predictor = Predictor.load(out / "rehearsals" / chosen.normalisation)
    answers = ModelAnswers(predictor, manifest.classes)
    return worst_pictures(answers, manifest, chosen.evaluation, _WORST)


def _predictions(out: Path, labelled: Manifest) -> tuple[Exhibit, ...]:
    pool: list[Sample] = []
    for sample in read_samples(out / "index" / UNLABELED_NAME):
        pool.append(sample)
        if len(pool) == _MOST_LISTED:
            break
    answers = ModelAnswers(Predictor.load(out / "model"), labelled.classes)
    return prediction_pictures(answers, pool, labelled.classes, _PREDICTED)


def _files(out: Path) -> tuple[FileEntry, ...]:
    return (
        FileEntry(
            str(out / "model"), "the model: give it, or the folder above, to predict, evaluate, export"
        ),
        FileEntry(str(out / "model" / "card.json"), "everything that decided the training"),
        FileEntry(str(out / "model" / "tensorboard"), "its course: tensorboard --logdir"),
        FileEntry(str(out / "index"), "the dataset as it was read: manifests, statistics, converted masks"),
        FileEntry(str(out / "rehearsals"), "the short trainings without the held-out images"),
    )
