"""Smart tools as Label Studio calls them: an interactive /predict with a context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import SecretStr
from stand_ins import SETUP, FolderImages, RecordingJobs, load_threshold, publish

from srpu_backend.annotator import Champions
from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import masks_from_results
from srpu_backend.service import Service
from srpu_backend.settings import Settings
from training.data.regions import rle

pytestmark = pytest.mark.fast

SHAPE = (96, 128)
LABELS = "<Label value='pore'/><Label value='grain' alias='Korn'/>"
SMART = f"<KeyPointLabels name='point' toName='image' smart='true'>{LABELS}</KeyPointLabels>"
ANSWERS = {
    "brush": f"<BrushLabels name='answer' toName='image' smart='true'>{LABELS}</BrushLabels>",
    "bitmask": f"<BitmaskLabels name='answer' toName='image'>{LABELS}</BitmaskLabels>",
    "polygon": f"<PolygonLabels name='answer' toName='image'>{LABELS}</PolygonLabels>",
    "paired": f"<Brush name='answer' toName='image'/><Labels name='l' toName='image'>{LABELS}</Labels>",
}
BOXES = f"<RectangleLabels name='box' toName='image' smart='true'>{LABELS}</RectangleLabels>"


def config_of(answer: str) -> str:
    return f"<View><Image name='image' value='$image'/>{SMART}{ANSWERS[answer]}{BOXES}</View>"


def truth() -> Any:
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.circle(drawn, (40, 48), 20, 1, -1)
    cv2.circle(drawn, (95, 48), 16, 1, -1)
    return drawn


def image() -> Any:
    noise = np.random.default_rng(0).normal(0, 4, SHAPE)
    grey = cv2.GaussianBlur(70 + 100 * truth().astype(np.float32), (0, 0), 1)
    return np.clip(grey + noise, 0, 255).astype(np.uint8)


class CountingImages(FolderImages):
    loads = 0

    def load(self, *args: Any, **kwargs: Any) -> Any:
        self.loads += 1
        return super().load(*args, **kwargs)


@pytest.fixture
def images(tmp_path: Path) -> CountingImages:
    return CountingImages(tmp_path, {"/a.png": image()})


@pytest.fixture
def service(tmp_path: Path, images: CountingImages) -> Service:
    settings = Settings(model_dir=tmp_path, label_studio_url="", label_studio_api_key=SecretStr(""))
    service = Service(settings, RecordingJobs(), images, champions=Champions(2, load_threshold))
    service.setup({**SETUP, "schema": config_of("brush")})
    return service


def prompt(type: str, value: dict[str, Any], label: str = "Korn", **fields: Any) -> dict[str, Any]:
    """As Chromium sends it."""
    return {
        "original_width": SHAPE[1],
        "original_height": SHAPE[0],
        "image_rotation": 0,
        "value": {**value, "labels": [label], type: [label]},
        "is_positive": True,
        "id": "JKh7fO5U_L",
        "from_name": "point",
        "to_name": "image",
        "type": type,
        "origin": "manual",
        **fields,
    }


def click(x: float, y: float, positive: bool = True, label: str = "Korn", **fields: Any) -> dict[str, Any]:
    percent = {"x": x * 100 / SHAPE[1], "y": y * 100 / SHAPE[0], "width": 0.23}
    return prompt("keypointlabels", percent, label, is_positive=positive, **fields)


def box(x0: int, y0: int, x1: int, y1: int, **fields: Any) -> dict[str, Any]:
    scale = 100 / SHAPE[1], 100 / SHAPE[0]
    value = {
        "x": x0 * scale[0],
        "y": y0 * scale[1],
        "width": (x1 - x0) * scale[0],
        "height": (y1 - y0) * scale[1],
    }
    return prompt("rectanglelabels", {**value, "rotation": 0}, from_name="box", **fields)


def ask(service: Service, context: Any, answer: str = "brush", image: str = "/a.png") -> dict[str, Any]:
    (element,) = service.predict(
        {
            "tasks": [{"id": 17, "data": {"image": image}, "annotations": [], "drafts": []}],
            "project": "1.1795332730",
            "label_config": config_of(answer),
            "params": {"login": None, "password": None, "context": context},
        }
    )["results"]
    return element


def drawn(element: dict[str, Any], answer: str = "brush") -> Any:
    decoded = masks_from_results(element["result"], LabelConfig.parse(config_of(answer)), SHAPE[::-1])
    assert decoded.problems == ()
    return decoded.mask


def iou(found: Any, wanted: Any) -> float:
    return float((found & wanted).sum() / (found | wanted).sum())


LEFT = truth().astype(bool) & (np.arange(SHAPE[1]) < 65)


class TestAnswers:
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_a_click_gives_a_region_of_the_label_and_the_answering_tag(
        self, service: Service, answer: str
    ) -> None:
        element = ask(service, {"result": [click(42, 50)]}, answer)
        assert "error" not in element
        assert element["model_version"] == "untrained"
        first = element["result"][0]
        assert first["from_name"] == "answer"
        assert first["to_name"] == "image"
        assert first["id"]
        assert 0 < first["score"] <= 1
        assert iou(drawn(element, answer) == 2, LEFT) > 0.85

    def test_a_box_each_gives_a_region_each(self, service: Service) -> None:
        element = ask(service, {"result": [box(18, 26, 62, 70), box(77, 30, 113, 66)]}, "bitmask")
        assert len(element["result"]) == 2
        assert iou(drawn(element, "bitmask") == 2, truth() > 0) > 0.8

    def test_a_scribble_is_a_prompt(self, service: Service) -> None:
        stroke = np.zeros(SHAPE, np.uint8)
        cv2.line(stroke, (30, 48), (50, 48), 1, 3)
        value = {"format": "rle", "rle": rle.encode(stroke)}
        element = ask(service, {"result": [prompt("brushlabels", value, from_name="answer")]})
        assert iou(drawn(element) == 2, LEFT) > 0.85

    def test_negative_clicks_are_outside(self, service: Service) -> None:
        element = ask(service, {"result": [click(40, 48), click(30, 48, positive=False)]})
        assert drawn(element)[48, 30] == 0
        assert drawn(element)[48, 40] == 2

    def test_labels_of_a_plain_keypoint_come_from_its_partner(self, service: Service) -> None:
        one = {**click(42, 50), "type": "keypoint"}
        one["value"] = {"x": one["value"]["x"], "y": one["value"]["y"], "width": 0.2}
        partner = {**one, "type": "labels", "value": {**one["value"], "labels": ["pore"]}}
        assert set(np.unique(drawn(ask(service, {"result": [one, partner]})))) == {0, 1}

    def test_the_champion_helps_and_names_the_version(self, service: Service) -> None:
        version = publish(service.projects.get(1), names=("background", "pore", "Korn"))
        element = ask(service, {"result": [click(42, 50)]})
        assert element["model_version"] == version
        assert iou(drawn(element) == 2, LEFT) > 0.9

    def test_a_champion_that_cannot_be_loaded_does_not_stop_clicks(self, service: Service) -> None:
        project = service.projects.get(1)
        version = publish(project)
        (project.registry.folder(version) / "card.json").write_text("{")
        assert ask(service, {"result": [click(42, 50)]})["result"]


class TestSecondClick:
    def test_looks_at_nothing_again(self, service: Service, images: CountingImages) -> None:
        ask(service, {"result": [click(42, 50)]})
        loads = images.loads
        ask(service, {"result": [click(42, 50), click(5, 5, positive=False)]})
        assert loads > 0
        assert images.loads == loads

    def test_a_new_champion_looks_again(self, service: Service) -> None:
        ask(service, {"result": [click(42, 50)]})
        version = publish(service.projects.get(1))
        assert ask(service, {"result": [click(42, 50)]})["model_version"] == version


class TestWhatCannotBeFollowed:
    @pytest.mark.parametrize(
        ("context", "said"),
        [
            ({"result": []}, "no prompt"),
            ({"results": 3}, "no list `result`"),
            ("x", "no list `result`"),
            ({"result": [3]}, "no region"),
            ({"result": [{"type": "keypointlabels"}]}, "no label was chosen"),
            ({"result": [click(3, 3, label="crack")]}, "'crack' is not among"),
            ({"result": [click(300, 3)]}, "outside of the image"),
            ({"result": [click(float("nan"), 3)]}, "outside of the image"),
            ({"result": [click(3, 3, positive=False)]}, "without Alt"),
            ({"result": [click(3, 3, original_width=77)]}, "reload the task"),
            ({"result": [box(400, 10, 500, 20)]}, "covers no pixel"),
            ({"result": [prompt("brushlabels", {"rle": [1, 2]})]}, "cannot be read"),
            ({"result": [click(3, 3)] * 201}, "more than 200"),
            ({"result": [{**click(3, 3), "value": "x"}]}, "no label was chosen"),
        ],
    )
    def test_gets_an_empty_result_and_one_sentence(self, service: Service, context: Any, said: str) -> None:
        element = ask(service, context)
        assert (element["result"], element["score"]) == ([], 0.0)
        assert said in element["error"]
        assert element["error"].endswith(".")
        assert "\n" not in element["error"]

    def test_an_image_that_is_missing_is_told(self, service: Service) -> None:
        assert "no such image" in ask(service, {"result": [click(3, 3)]}, image="/b.png")["error"]

    def test_a_defect_is_logged_and_not_shown(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr("srpu_backend.interactive.smart_tool.segment", broken)
        element = ask(service, {"result": [click(3, 3)]})
        assert element["result"] == []
        assert "secret" not in element["error"]
        assert "secret detail" in caplog.text


def test_the_label_config_of_the_docs_answers_clicks(service: Service) -> None:
    page = (Path(__file__).parents[2] / "docs" / "smart-tools.md").read_text(encoding="utf-8")
    xml = page.split("```xml")[1].split("```")[0]
    config = LabelConfig.parse(xml)
    (element,) = service.predict(
        {
            "tasks": [{"id": 1, "data": {"image": "/a.png"}}],
            "project": "1.1",
            "label_config": xml,
            "params": {"context": {"result": [click(42, 50, label="precipitate")]}},
        }
    )["results"]
    decoded = masks_from_results(element["result"], config, SHAPE[::-1])
    assert iou(decoded.mask == 2, LEFT) > 0.85
