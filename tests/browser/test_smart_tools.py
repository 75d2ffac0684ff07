"""What an annotator does with a smart tool: a click, a region, its acceptance, in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from examples.demo.data import read_folder
from examples.demo.label_studio import EXECUTABLE, free_port
from examples.demo.processes import Ports, Stack, wait_until
from examples.demo.project import DemoProject, prepare
from examples.demo.watchdog import ROOT
from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import masks_from_results
from training.data.masks import read_mask
from training.simulator import write_dataset

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZE = (384, 512)
ARTIFACTS = ROOT / "test-artifacts"
LABELS = "".join(
    f'<Label value="{name}" background="{color}"/>'
    for name, color in (("particle", "#e6194b"), ("pore", "#4363d8"), ("crack", "#f58231"))
)
REGION_TYPES = {
    "BrushLabels": "brushregion",
    "BitmaskLabels": "bitmaskregion",
    "PolygonLabels": "polygonregion",
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; `.ci/run` installs Debian's"),
    pytest.mark.skipif(not EXECUTABLE.exists(), reason="Label Studio is not installed"),
]


@dataclass(frozen=True)
class Running:
    """A demo without any model."""

    stack: Stack
    demo: DemoProject


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, 4, 4, SIZE)
    variables = {"SRPU_FIRST_TRAINING_AFTER": "1000"}
    ports = Ports(free_port(), free_port())
    with Stack(tmp_path_factory.mktemp("state"), ports, folder, variables) as stack:
        demo = prepare(stack, read_folder(folder), "smart tools")
        yield Running(stack, demo)


@pytest.fixture
def page(running: Running) -> Iterator[Any]:
    """A page that is logged in and reaches this machine only."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        try:
            page = browser.new_page(viewport={"width": 1500, "height": 950})
            page.route("**/*", lambda route: _only_to(running.stack.studio.url, route))
            page.goto(f"{running.stack.studio.url}/user/login/")
            page.fill("input[name=email]", running.stack.studio.account.email)
            page.fill("input[name=password]", running.stack.studio.account.password)
            page.click("button[type=submit]")
            page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit", timeout=60_000)
            yield page
        finally:
            browser.close()


@pytest.mark.parametrize("tag", REGION_TYPES)
def test_a_click_becomes_a_region_that_is_accepted_and_submitted(
    page: Any, running: Running, tag: str
) -> None:
    xml = _config(tag)
    running.demo.studio.update_project(running.demo.id, label_config=xml)
    task = running.demo.annotator.next_task()
    assert task is not None
    truth, (x, y) = _largest_particle(running, task)
    page.goto(f"{running.stack.studio.url}/projects/{running.demo.id}/data?task={task['id']}")
    page.wait_for_selector("canvas", timeout=60_000)
    page.wait_for_timeout(2_500)  # the editor puts the image in place after its canvas
    _use_smart_keypoint(page)
    with page.expect_response("**/interactive-annotating**", timeout=30_000) as answered:
        _click_image(page, x / SIZE[1], y / SIZE[0])
    assert "errors" not in answered.value.json(), answered.value.text()
    accept = page.locator("[data-testid=bottombar-accept-suggestions-button]")
    accept.wait_for(timeout=30_000)
    ARTIFACTS.mkdir(exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=ARTIFACTS / f"smart-click-{tag}.png")
    accept.click()
    page.wait_for_function(
        "type => window.Htx.annotationStore.selected.regionStore.regions.some(r => r.type === type)",
        arg=REGION_TYPES[tag],
        timeout=30_000,
    )
    page.screenshot(path=ARTIFACTS / f"smart-accepted-{tag}.png")
    page.locator('button:has-text("Submit")').first.click()

    def submitted() -> bool:
        return bool(_annotations(running, task))

    assert wait_until(submitted, 60)
    results = [r for r in _annotations(running, task)[-1]["result"] if r["from_name"] == tag]
    decoded = masks_from_results(results, LabelConfig.parse(xml), (SIZE[1], SIZE[0]))
    found = decoded.mask == 1
    assert decoded.problems == ()
    assert (found & truth).sum() / (found | truth).sum() > 0.5


def _config(tag: str) -> str:
    """All three tags, since annotations with one of them may exist; `tag` is the one to answer with."""
    masks = "".join(
        f'<{one} name="{one}" toName="image" model_answer="{str(one == tag).lower()}">{LABELS}</{one}>'
        for one in REGION_TYPES
    )
    return (
        '<View><Image name="image" value="$image"/>'
        f'<KeyPointLabels name="point" toName="image" smart="true">{LABELS}</KeyPointLabels>{masks}</View>'
    )


def _largest_particle(running: Running, task: dict[str, Any]) -> tuple[Any, tuple[int, int]]:
    """Its pixels, and its innermost one."""
    path = running.demo.annotator.folder.mask_of(Path(task["data"]["name"]).stem)
    assert path is not None
    _, labels, stats, _ = cv2.connectedComponentsWithStats((read_mask(path) == 1).astype(np.uint8))
    truth = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    depth = cv2.distanceTransform(np.pad(truth, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return truth, (int(x), int(y))


def _use_smart_keypoint(page: Any) -> None:
    toggle = page.locator("[data-testid=bottombar-auto-annotation-toggle]")
    toggle.wait_for(timeout=30_000)
    toggle.click()
    page.wait_for_timeout(500)
    page.evaluate(
        """() => document.querySelector('button[aria-label="key-point-tool"].lsf-tool_smart').click()"""
    )
    page.locator(".lsf-label", has_text="particle").first.click()


def _click_image(page: Any, x: float, y: float) -> None:
    """At a place given in shares of the image's width and height."""
    place = page.evaluate(
        """() => {
          const image = window.Htx.annotationStore.selected.objects.find(o => o.type === 'image');
          const box = document.querySelector('.konvajs-content').getBoundingClientRect();
          return [box.x, box.y, image.stageWidth, image.stageHeight];
        }"""
    )
    page.mouse.click(place[0] + x * place[2], place[1] + y * place[3])


def _annotations(running: Running, task: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.demo.studio.export(running.demo.id, [int(task["id"])])
    return found[0]["annotations"] if found else []


def _only_to(allowed: str, route: Any) -> None:
    if route.request.url.startswith((allowed, "data:", "blob:")):
        route.continue_()
    else:
        route.abort()
