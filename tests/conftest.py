"""What the tests share: a real Label Studio, real micrographs where they are at hand, no calls home."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything of ours or theirs is imported: two tests' worth of threads on a small machine, no
# look-ups of newer versions or of weights, and no proxy between us and our own loopback servers.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
os.environ |= {
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}

from examples.demo.label_studio import EXECUTABLE, LabelStudioProcess

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

BRUSH_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">
    <Label value="matrix" background="#3b82f6"/>
    <Label value="particle" background="#e6194b"/>
  </BrushLabels>
</View>"""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real micrographs; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real micrographs here: {SHARED_DATA} does not exist")
    return SHARED_DATA


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioProcess]:
    """A Label Studio of its own for this test run; `document_root` serves local files."""
    if not EXECUTABLE.exists():
        pytest.skip(f"Label Studio is not installed: run `make install-label-studio` ({EXECUTABLE})")
    folder = tmp_path_factory.mktemp("label-studio")
    documents = folder / "documents"
    documents.mkdir()
    with LabelStudioProcess(folder / "data", document_root=documents) as process:
        yield process


@pytest.fixture
def studio(label_studio: LabelStudioProcess) -> Any:
    """A `Studio` that talks to `label_studio` with its legacy token."""
    from srpu_backend.studio import Studio

    return Studio(label_studio.url, label_studio.account.token)


@pytest.fixture
def new_project(studio: Any) -> Iterator[Callable[..., int]]:
    """`new_project(label_config=…, title=…) -> id`; the projects are deleted after the test."""
    made: list[int] = []

    def make(label_config: str = BRUSH_CONFIG, title: str = "a test", **fields: Any) -> int:
        id = int(studio.create_project(title, label_config, **fields)["id"])
        made.append(id)
        return id

    yield make
    for id in made:
        studio.delete_project(id)


@pytest.fixture
def project_id(new_project: Callable[..., int]) -> int:
    """A fresh, empty project with brush labels `matrix` and `particle`."""
    return new_project()
