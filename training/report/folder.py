"""What `evaluate --report` leaves in a folder: the page, and its parts for other uses."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np

from model_zoo.files import write_atomically
from training.report.content import Report
from training.report.page import png, write_report
from training.report.pictures import side_by_side
from training.report.plots import confusion_figure
from training.scoring import metrics
from training.scoring.evaluation import Evaluation
from training.scoring.scores import Score, Scores

PAGE_NAME = "index.html"
CONFUSION_NAME = "confusion.png"
SCORES_NAME = "scores.csv"
IMAGES_NAME = "images.csv"
OVERLAYS_NAME = "overlays"

_MEASURES = ("iou", "dice", "boundary_f1", "precision", "recall")


def write_evaluation(folder: Path, content: Report) -> Path:
    """Write the page, scores.csv, images.csv, confusion.png and overlays/ of a report with an evaluation.

    Overlays of an earlier report in the folder are replaced. Returns the path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if content.evaluation is not None:
        evaluation, scores = content.evaluation.evaluation, content.evaluation.scores
        write_atomically(folder / SCORES_NAME, scores_table(scores).encode())
        write_atomically(folder / IMAGES_NAME, images_table(evaluation).encode())
        figure = confusion_figure(evaluation.counts().sum(axis=0), evaluation.classes, "png")
        write_atomically(folder / CONFUSION_NAME, figure)
    shutil.rmtree(folder / OVERLAYS_NAME, ignore_errors=True)
    if content.gallery:
        (folder / OVERLAYS_NAME).mkdir()
    for rank, exhibit in enumerate(content.gallery, start=1):
        name = re.sub(r"[^\w.-]+", "_", exhibit.title)
        write_atomically(folder / OVERLAYS_NAME / f"{rank:02}-{name}.png", png(side_by_side(exhibit)))
    return write_report(folder / PAGE_NAME, content)


def scores_table(scores: Scores) -> str:
    """CSV: a row for each class and one for the means, scores in [0, 1] with their intervals."""
    rows: list[list[str]] = [["class"]]
    for measure in _MEASURES:
        rows[0] += [measure, f"{measure}_low", f"{measure}_high"]
    rows[0] += ["accuracy", "accuracy_low", "accuracy_high"]
    for of in scores.classes:
        cells = [cell for measure in _MEASURES for cell in _cells(getattr(of, measure))]
        rows.append([of.name, *cells, "", "", ""])
    means = [scores.miou, scores.mean_dice, scores.mean_boundary_f1, Score(), Score(), scores.accuracy]
    rows.append(["mean", *(cell for score in means for cell in _cells(score))])
    return _csv(rows)


def images_table(evaluation: Evaluation) -> str:
    """CSV: a row for each image, worst first: mIoU, accuracy and the IoU of each class, in [0, 1]."""
    rows = [["image", "group", "miou", "accuracy", *(f"iou {name}" for name in evaluation.classes)]]
    for image in evaluation.worst_first():
        confusion = np.array(image.confusion, dtype=np.int64)
        values = [metrics.miou(confusion), metrics.accuracy(confusion), *metrics.iou(confusion)]
        rows.append([image.key, image.group, *("" if np.isnan(v) else f"{v:.6f}" for v in values)])
    return _csv(rows)


def _cells(score: Score) -> list[str]:
    low, high = (score.interval.low, score.interval.high) if score.interval else (None, None)
    return ["" if value is None else f"{value:.6f}" for value in (score.value, low, high)]


def _csv(rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
