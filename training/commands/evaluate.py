"""`python -m training evaluate`: a model, or a folder of predictions, counted against the truth."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from model_zoo.card import ModelCard
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically
from model_zoo.inference.engine_record import EngineName
from training.commands.command import Bar, Command, add_json_argument, add_parent_argument, percent
from training.data.manifest import Manifest, Part
from training.model_reference import REFERENCES, find_model
from training.progress import Progress, ProgressFile

if TYPE_CHECKING:
    from training.scoring.answers import Answers
    from training.scoring.evaluation import Evaluation
    from training.scoring.scores import Score, Scores

EXAMPLES = """examples:
  python -m training evaluate --model runs/first --manifest data/manifest.json \\
      --part test --out runs/first/test.json
  python -m training evaluate --model runs/first --manifest data/manifest.json \\
      --part test --out runs/first/test.json --report runs/first/report
  python -m training evaluate --predictions masks/ --manifest data/manifest.json \\
      --part all --out masks.json

--report writes index.html, a page to read, and what is on it: scores.csv, images.csv,
confusion.png, overlays/. What each score is: docs/evaluating.md."""

PICTURES = 8


class BadOptions(SRPUError):
    """Options that do not go together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evaluate`."""
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument("--model", help=REFERENCES)
    measured.add_argument(
        "--predictions", type=Path, metavar="DIR", help="instead: index PNGs, one for each image, named as it"
    )
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="where projects lie (default: environment, MODEL_DIR)"
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument(
        "--part", choices=(*get_args(Part), "all"), default="holdout", help="(default: holdout)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file: scores, confusion matrices by image"
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page to read, with pictures")
    parser.add_argument(
        "--pictures",
        type=int,
        metavar="N",
        help=f"images shown in the report, worst first (default {PICTURES})",
    )
    parser.add_argument(
        "--boundary-tolerance",
        type=_pixels,
        default=2.0,
        metavar="PX",
        help="an outline this near counts as met (default 2)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the intervals' draws (default 0)")
    parser.add_argument("--engine", choices=get_args(EngineName), default="auto")
    parser.add_argument("--mirrored", action="store_true", help="average over mirror images, as predict does")
    add_json_argument(parser, "the scores")
    add_parent_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, write what was asked for, and say what came out; returns the exit code."""
    from training.scoring.evaluation import labelled, measure

    if options.pictures is not None and options.report is None:
        raise BadOptions("--pictures are part of a report; say with --report DIR where to write it.")
    manifest = Manifest.read(options.manifest)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model = None if options.model is None else find_model(options.model, options.model_dir)
    answers = _answers(options, model, manifest)
    with Bar() as bar:
        progress = _Teller(options, bar)
        evaluation = measure(answers, manifest, options.part, progress.measured, options.boundary_tolerance)
        scores = evaluation.scored(options.seed)
        evaluation = evaluation.model_copy(update={"scores": scores})
        write_atomically(options.out, evaluation.model_dump_json().encode())
        page = None
        if options.report is not None:
            page = _write_report(options, model, answers, manifest, evaluation, progress)
    if options.json:
        print(json.dumps(_summary(evaluation, scores), ensure_ascii=False))
        return 0
    print("\n".join(_lines(evaluation, scores)))
    if not labelled(manifest, options.part):
        print(_where_labels_are(manifest, options.part))
    if page is not None:
        print(f"The report is {page}.")
    return 0


class _Teller:
    """Says how far it is: to whoever watches, and in progress.json."""

    def __init__(self, options: argparse.Namespace, bar: Any) -> None:
        self._bar = bar
        self._file = ProgressFile(options.out.parent)

    def measured(self, done: int, total: int) -> None:
        fraction = done / total if total else 1.0
        message = f"measured {done} of {total} images"
        self._file(Progress(stage="evaluate", fraction=fraction, message=message))
        self._bar("measuring", done, total)

    def drawn(self, done: int, total: int) -> None:
        self._bar("drawing", done, total)


def _answers(options: argparse.Namespace, model: Path | None, manifest: Manifest) -> Answers:
    from training.scoring.answers import FolderAnswers, ModelAnswers
    from training.scoring.evaluation import labelled

    if model is None:
        answers = FolderAnswers(options.predictions, manifest.classes)
        answers.require(labelled(manifest, options.part))
        return answers
    from model_zoo.inference import Predictor

    return ModelAnswers(
        Predictor.load(model, engine=options.engine, mirrored=options.mirrored), manifest.classes
    )


def _write_report(
    options: argparse.Namespace,
    model: Path | None,
    answers: Answers,
    manifest: Manifest,
    evaluation: Evaluation,
    progress: _Teller,
) -> Path:
    from training import report

    limit = PICTURES if options.pictures is None else options.pictures
    scores = evaluation.scores or evaluation.scored(options.seed)
    card = None if model is None else ModelCard.read(model)
    name = Path(options.predictions or options.model).resolve().name
    if card is not None and card.version:
        name = card.version
    page = report.Report(
        title=f"{name}: how good it is",
        verdict=report.verdict(evaluation, scores),
        facts=_facts(evaluation, scores, card),
        evaluation=report.evaluation_section(evaluation, manifest.classes, scores=scores),
        gallery=report.worst_pictures(answers, manifest, evaluation, limit, progress.drawn),
        training=report.training_section(card, report.read_loss_curve(model)) if card and model else None,
        files=_files(options.out),
        made=datetime.now(UTC),
    )
    return report.write_evaluation(options.report, page)


def _facts(evaluation: Evaluation, scores: Scores, card: ModelCard | None) -> tuple[Any, ...]:
    from training.report import Fact

    facts = [
        Fact("mIoU", percent(scores.miou.value)),
        Fact("pixels that are right", percent(scores.accuracy.value)),
        Fact("measured on", f"{scores.images} {evaluation.part} images"),
        Fact("groups they are from", str(scores.groups)),
    ]
    if card is not None:
        facts.append(Fact("learnt from", f"{card.training_images} images"))
        facts.append(Fact("network", f"{card.spec.encoder}, {card.spec.decoder}"))
    return tuple(facts)


def _files(out: Path) -> tuple[Any, ...]:
    from training.report import FileEntry

    return (
        FileEntry(str(out), "scores and the confusion matrix of each image"),
        FileEntry("scores.csv", "scores and their intervals, for spreadsheets"),
        FileEntry("images.csv", "mIoU, accuracy and IoU of each image, worst first"),
        FileEntry("confusion.png", "the confusion matrix as a picture"),
        FileEntry("overlays/", "the pictures of this page, larger"),
    )


def _summary(evaluation: Evaluation, scores: Scores) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "part": evaluation.part,
        "images": len(evaluation.images),
        "miou": evaluation.miou,
        "iou": evaluation.iou,
        "scores": scores.model_dump(mode="json"),
        "problems": evaluation.problems,
    }


def _lines(evaluation: Evaluation, scores: Scores) -> list[str]:
    """The scores as a small table."""
    head = ("", "IoU", "Dice", f"boundary F1, {evaluation.boundary_tolerance:g} px")
    rows = [(of.name, *map(_cell, (of.iou, of.dice, of.boundary_f1))) for of in scores.classes]
    rows.append(("mean", *map(_cell, (scores.miou, scores.mean_dice, scores.mean_boundary_f1))))
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    drawn = "groups" if scores.groups > 1 else "images"
    certainty = f" In brackets: 95 % intervals over {drawn}." if scores.resamples else ""
    count = f"{scores.images} {evaluation.part} images"
    return [
        f"{count}: mIoU {percent(scores.miou.value)} in {scores.groups} groups.",
        *table,
        f"Pixel accuracy {_cell(scores.accuracy)}.{certainty}",
    ]


def _cell(score: Score) -> str:
    if score.value is None or score.interval is None:
        return percent(score.value)
    return f"{percent(score.value)} ({100 * score.interval.low:.1f}–{100 * score.interval.high:.1f})"


def _where_labels_are(manifest: Manifest, part: str) -> str:
    counts = {name: sum(sample.mask is not None for sample in manifest.of(name)) for name in get_args(Part)}
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
    return f"No labelled image plays the part {part}; labelled images of this manifest: {found}."


def _pixels(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a distance in px, such as 2")
    return value


def folder(options: argparse.Namespace) -> Path:
    """Where `evaluate` leaves error.json."""
    return Path(options.out).parent


COMMAND = Command("evaluate", "measure a model on a part of a manifest", add_arguments, run, EXAMPLES, folder)
