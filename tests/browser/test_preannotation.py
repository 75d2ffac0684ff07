"""What an annotator sees: a mask that the model drew, in a real Label Studio in a real Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray

from examples.demo.data import read_folder
from examples.demo.label_studio import EXECUTABLE, free_port
from examples.demo.processes import Ports, Stack, wait_until
from examples.demo.project import DemoProject, prepare
from examples.demo.watchdog import ROOT
from srpu_backend.regions import masks_from_results
from training.data.masks import read_mask
from training.simulator import write_dataset

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZE = (192, 256)
ARTIFACTS = ROOT / "test-artifacts"
SMALL = {"minutes": 3, "max_steps": 150}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; `.ci/run` installs Debian's"),
    pytest.mark.skipif(not EXECUTABLE.exists(), reason="Label Studio is not installed"),
]


@dataclass(frozen=True)
class Trained:
    """A running demo whose first model serves."""

    stack: Stack
    demo: DemoProject
    version: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, 6, 4, SIZE)
    state = tmp_path_factory.mktemp("state")
    variables = {"SRPU_PRESET": "test", "SRPU_TRAINING": json.dumps(SMALL), "SRPU_DEBOUNCE": "1"}
    with Stack(state, Ports(free_port(), free_port()), folder, variables) as stack:
        demo = prepare(stack, read_folder(folder), "in the browser")
        demo.annotator.annotate_next(4)

        def served() -> bool:
            version = demo.projects.get(demo.id).registry.champion()
            return version is not None and demo.studio.project(demo.id)["model_version"] == version

        assert wait_until(served, 400), demo.projects.get(demo.id).state()
        yield Trained(stack, demo, str(demo.projects.get(demo.id).registry.champion()))


@pytest.fixture
def page(trained: Trained) -> Iterator[Any]:
    """A page that is logged in and reaches this machine only."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        try:
            page = browser.new_page(viewport={"width": 1500, "height": 950})
            page.route("**/*", lambda route: _only_to(trained.stack.studio.url, route))
            _log_in(page, trained.stack)
            yield page
        finally:
            browser.close()


def test_the_models_mask_is_shown_and_a_submitted_one_is_learnt_from(page: Any, trained: Trained) -> None:
    task = trained.demo.annotator.next_task()
    assert task is not None
    labelled = _status(trained)["labelled"]
    page.goto(f"{trained.stack.studio.url}/projects/{trained.demo.id}/data?task={task['id']}")
    page.wait_for_selector("canvas", timeout=60_000)
    regions = _regions_when_shown(page)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "pre-annotation.png")

    assert {region["type"] for region in regions} == {"brushregion"}
    assert {label for region in regions for label in region["labels"]} <= {"particle", "pore", "crack"}
    assert "particle" in {label for region in regions for label in region["labels"]}

    page.locator('button:has-text("Submit")').first.click()

    def arrived() -> bool:
        mirrored = {t.id: t for t in trained.demo.projects.get(trained.demo.id).mirror.labelled()}
        return int(task["id"]) in mirrored and _status(trained)["labelled"] == labelled + 1

    assert wait_until(arrived, 90), _status(trained)
    annotation = _annotation(trained, int(task["id"]))
    assert {result["origin"] for result in annotation["result"]} == {"prediction"}
    assert annotation["parent_prediction"] is not None
    submitted, predicted = _mask(trained, annotation), _mask(trained, _prediction(trained, int(task["id"])))
    np.testing.assert_array_equal(submitted, predicted)
    assert _particle_iou(trained, task, submitted) > 0.25


def _only_to(allowed: str, route: Any) -> None:
    if route.request.url.startswith((allowed, "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def _log_in(page: Any, stack: Stack) -> None:
    page.goto(f"{stack.studio.url}/user/login/")
    page.fill("input[name=email]", stack.studio.account.email)
    page.fill("input[name=password]", stack.studio.account.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit", timeout=60_000)


def _regions_when_shown(page: Any) -> list[dict[str, Any]]:
    """Type and labels of the regions of the annotation that is being made."""
    page.wait_for_function(
        "() => window.Htx?.annotationStore?.selected?.regionStore?.regions?.length > 0", timeout=60_000
    )
    found: list[dict[str, Any]] = page.evaluate(
        "() => window.Htx.annotationStore.selected.regionStore.regions"
        ".map(r => ({type: r.type, labels: [...r.labels]}))"
    )
    return found


def _status(trained: Trained) -> dict[str, Any]:
    answer = requests.get(f"{trained.stack.backend_url}/status", timeout=10).json()
    return next(project for project in answer["projects"] if project["id"] == trained.demo.id)


def _prediction(trained: Trained, task: int) -> dict[str, Any]:
    found = trained.demo.studio.get(f"/api/predictions/?task={task}").json()
    return next(prediction for prediction in found if prediction["model_version"] == trained.version)


def _mask(trained: Trained, said: dict[str, Any]) -> NDArray[np.uint8]:
    decoded = masks_from_results(said["result"], trained.demo.annotator.config, (SIZE[1], SIZE[0]))
    assert decoded.problems == ()
    return decoded.mask


def _particle_iou(trained: Trained, task: dict[str, Any], mask: NDArray[np.uint8]) -> float:
    """Of the submitted mask with the truth: what was drawn is where the particles are."""
    path = trained.demo.annotator.folder.mask_of(Path(task["data"]["name"]).stem)
    assert path is not None
    truth, drawn = read_mask(path) == 1, mask == 1
    return float((truth & drawn).sum() / (truth | drawn).sum())


def _annotation(trained: Trained, task: int) -> dict[str, Any]:
    exported = trained.demo.studio.export(trained.demo.id, [task])
    annotation: dict[str, Any] = exported[0]["annotations"][-1]
    return annotation
