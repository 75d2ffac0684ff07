"""The page people read: everything on it, nothing from elsewhere."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from micrographs import CLASSES, picture, write_manifest

from model_zoo.card import ModelCard, ModelSpec
from training import overlays
from training.data.findings import Finding, Findings
from training.data.manifest import Manifest
from training.data.masks import write_mask
from training.report import (
    DatasetSection,
    Exhibit,
    Fact,
    Picture,
    Report,
    dataset_section,
    evaluation_section,
    prediction_pictures,
    read_loss_curve,
    training_section,
    verdict,
    worst_pictures,
    write_evaluation,
    write_report,
)
from training.report.folder import images_table, scores_table
from training.report.page import render
from training.scoring.answers import FolderAnswers
from training.scoring.evaluation import Evaluation, ImageScore, measure

pytestmark = pytest.mark.fast


class Page(HTMLParser):
    """What a page asks for, whether its elements close, and its words."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_manifest(tmp_path, ["train", "test", "test", "test"])


@pytest.fixture
def answers(tmp_path: Path, manifest: Manifest) -> FolderAnswers:
    """Right for task-0, and worse from one to the next."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    for number in range(4):
        shifted = np.roll(picture(number)[1], 2 * number, axis=1)
        write_mask(folder / f"task-{number}.png", shifted, CLASSES)
    return FolderAnswers(folder, CLASSES)


@pytest.fixture
def evaluation(manifest: Manifest, answers: FolderAnswers) -> Evaluation:
    return measure(answers, manifest, "test", boundary_tolerance=2.0)


def card(**metrics: object) -> ModelCard:
    return ModelCard(
        version="",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        spec=ModelSpec(encoder="resnet18", classes=3),
        classes=CLASSES,
        training_images=7,
        metrics=dict(metrics),
        config={"lr": 0.001, "augmentation": {"noise": 0.05, "blur": None}},
    )


def whole(manifest: Manifest, answers: FolderAnswers, evaluation: Evaluation) -> Report:
    findings = Findings()
    findings.add(
        Finding(kind="size", severity="error", where="a.png", message="It is small.", fix="Enlarge it.")
    )
    return Report(
        title="A <b>model</b> & its page",
        verdict=verdict(evaluation, evaluation.scored()),
        facts=(Fact("mIoU", "1 %"),),
        evaluation=evaluation_section(evaluation, CLASSES, "Held out."),
        gallery=worst_pictures(answers, manifest, evaluation, 2),
        predictions=prediction_pictures(answers, manifest.samples, CLASSES, 2),
        dataset=dataset_section(CLASSES, manifest.samples, findings=findings),
        training=training_section(
            card(steps=40, seconds=130.0, loss=0.25, warnings=["No pores."]), [(1, 2.0), (2, 1.5), (3, 0.5)]
        ),
        made=datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
    )


def test_a_full_page_is_well_formed_and_needs_nothing_from_elsewhere(
    tmp_path: Path, manifest: Manifest, answers: FolderAnswers, evaluation: Evaluation
) -> None:
    path = write_report(tmp_path / "new" / "index.html", whole(manifest, answers, evaluation))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == 2 * 3 + 2 * 2 + 2
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "url(" not in text
    assert not page.tags & {"script", "link", "iframe", "b>model"}
    for words in (
        "A <b>model</b> & its page",
        "4 March 2026, 05:06 UTC",
        "Held out.",
        "particle",
        "It is small.",
        "Enlarge it.",
        "No pores.",
        "augmentation.noise",
        "2.2 min",
    ):
        assert words in page.words


def test_every_section_is_optional() -> None:
    page = Page(render(Report(title="Nothing yet", verdict="There is nothing to tell.")))
    assert "section" not in page.tags
    assert "There is nothing to tell." in page.words
    assert "section" in Page(render(Report("t", "v", dataset=DatasetSection(classes=())))).tags


def test_an_evaluation_without_images_is_told_and_not_drawn() -> None:
    nothing = Evaluation(model="", part="test", classes=("a", "b"), images=())
    sentence = verdict(nothing, nothing.scored())
    assert sentence == "There is nothing to judge on: 0 test images with a labelled pixel."
    section = evaluation_section(nothing, CLASSES[:2])
    assert Page(render(Report("t", sentence, evaluation=section))).sources == []


def test_the_verdict_names_the_score_and_the_weakest_class(evaluation: Evaluation) -> None:
    scores = evaluation.scored()
    said = verdict(evaluation, scores)
    assert said.startswith(
        f"On 3 test images the mIoU is {100 * (scores.miou.value or 0):.1f} % (95 % interval "
    )
    weakest = min(scores.classes, key=lambda of: of.iou.value or 0)
    assert f"the weakest class is {weakest.name} with" in said


def test_reasons_to_doubt_the_scores_are_said(evaluation: Evaluation) -> None:
    def notes(**changes: object) -> str:
        return " ".join(evaluation_section(evaluation.model_copy(update=changes), CLASSES).notes)

    assert "3 groups of images only" in notes()
    assert "may have learnt" in notes(part="train")
    assert "no intervals" in notes(images=evaluation.images[:1])
    one = tuple(image.model_copy(update={"group": "one"}) for image in evaluation.images)
    assert "All images are of one group" in notes(images=one)
    assert "x is left out: it is broken" in notes(problems=("x is left out: it is broken",))
    empty = ImageScore(key="k", group="k", confusion=((5, 0, 1), (2, 7, 0), (0, 0, 0)))
    assert "No image shows pore" in notes(images=(empty,), boundary_tolerance=None)


def test_the_worst_come_first_and_no_more_than_asked_for(
    manifest: Manifest, answers: FolderAnswers, evaluation: Evaluation
) -> None:
    shown = worst_pictures(answers, manifest, evaluation, 2)
    assert [exhibit.title for exhibit in shown] == ["task-3", "task-2"]
    assert [picture.caption for picture in shown[0].pictures] == ["labelled", "predicted", "errors"]
    truth, wrong = picture(3)[1], np.roll(picture(3)[1], 6, axis=1)
    errors = overlays.error_map(picture(3)[0], truth, wrong, CLASSES)
    np.testing.assert_array_equal(shown[0].pictures[2].pixels, errors)
    assert worst_pictures(answers, manifest, evaluation, 0) == ()


def test_large_pictures_are_shrunk(
    monkeypatch: pytest.MonkeyPatch, manifest: Manifest, answers: FolderAnswers
) -> None:
    monkeypatch.setattr("training.report.pictures.LARGEST_SIDE", 48)
    (exhibit,) = prediction_pictures(answers, manifest.samples[:1], CLASSES)
    assert exhibit.pictures[0].pixels.shape == (48, 40, 3)


def test_the_folder_holds_the_page_and_its_parts(
    tmp_path: Path, manifest: Manifest, answers: FolderAnswers, evaluation: Evaluation
) -> None:
    folder = tmp_path / "report"
    (folder / "overlays").mkdir(parents=True)
    (folder / "overlays" / "09-of-last-time.png").touch()
    page = write_evaluation(folder, whole(manifest, answers, evaluation))
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    assert page == folder / "index.html"
    assert files == [
        "confusion.png",
        "images.csv",
        "index.html",
        "overlays/01-task-3.png",
        "overlays/02-task-2.png",
        "scores.csv",
    ]
    assert cv2.imread(str(folder / "overlays" / "01-task-3.png")).shape == (96, 3 * 80 + 2 * 12, 3)
    assert cv2.imread(str(folder / "confusion.png")) is not None


def test_a_key_with_slashes_makes_no_folders(tmp_path: Path) -> None:
    exhibit = Exhibit("../a/b c", "", (Picture("p", np.zeros((4, 4, 3), np.uint8)),))
    write_evaluation(tmp_path / "report", Report("t", "v", gallery=(exhibit,)))
    assert [path.name for path in (tmp_path / "report" / "overlays").iterdir()] == ["01-.._a_b_c.png"]


def test_tables_hold_the_scores(evaluation: Evaluation) -> None:
    scores = evaluation.scored()
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO(scores_table(scores)))}
    assert list(rows) == ["matrix", "particle", "pore", "mean"]
    assert float(rows["mean"]["iou"]) == pytest.approx(scores.miou.value, abs=1e-6)
    pore = scores.classes[2].boundary_f1
    assert pore.interval is not None
    assert float(rows["pore"]["boundary_f1_low"]) == pytest.approx(pore.interval.low, abs=1e-6)
    assert rows["mean"]["precision"] == ""
    images = list(csv.DictReader(io.StringIO(images_table(evaluation))))
    assert [row["image"] for row in images] == ["task-3", "task-2", "task-1"]
    assert float(images[0]["miou"]) == pytest.approx(evaluation.worst_first()[0].miou, abs=1e-6)


def test_the_same_report_gives_the_same_page(
    manifest: Manifest, answers: FolderAnswers, evaluation: Evaluation
) -> None:
    content = whole(manifest, answers, evaluation)
    assert render(content) == render(content)


def test_many_classes_with_long_names_still_make_a_page() -> None:
    names = tuple(f"a phase with a rather long name {n}" for n in range(20))
    confusion = tuple(tuple(10 if a == b else 1 for a in range(20)) for b in range(20))
    images = (ImageScore(key="k", group="k", confusion=confusion),)
    many = Evaluation(model="", part="test", classes=names, images=images)
    classes = [CLASSES[0].model_copy(update={"name": name}) for name in names]
    section = evaluation_section(many, classes)
    page = Page(render(Report("t", "v", evaluation=section)))
    assert names[19] in page.words
    assert len(set(re.findall("#[0-9a-f]{6}", " ".join(section.colors)))) > 5


def test_the_loss_is_read_from_tensorboard(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    assert read_loss_curve(tmp_path) == ()
    for steps in (range(4), range(2, 6)):  # killed, and gone on with from step 2
        with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
            for step in steps:
                writer.add_scalar("loss", 1.0 / (step + 1), step)
    curve = read_loss_curve(tmp_path)
    assert [step for step, _ in curve] == [0, 1, 2, 3, 4, 5]
    assert curve[1][1] == pytest.approx(0.5)
    assert read_loss_curve(tmp_path, "no such thing") == ()
