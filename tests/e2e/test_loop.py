"""The loop against a real Label Studio: it learns, tells, and survives being killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

from examples.demo.label_studio import LabelStudioProcess
from srpu_backend.jobs import JobClient
from srpu_backend.projects import Project, Projects
from srpu_backend.settings import Settings
from srpu_backend.write_back import TAB_TITLE, UNCERTAINTY_SAMPLING

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image">
    <Label value="matrix"/>
    <Label value="particle"/>
  </RectangleLabels>
  <BrushLabels name="brush" toName="image">
    <Label value="matrix"/>
    <Label value="particle"/>
  </BrushLabels>
</View>"""
SIDE = 96


class Lab:
    """One project in a real Label Studio, its annotator, and the trainer that follows it."""

    def __init__(self, label_studio: LabelStudioProcess, studio: Any, project_id: int, root: Path) -> None:
        self.studio = studio
        self.id = project_id
        self.root = root
        self.url = label_studio.url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {label_studio.account.token}"
        self._trainers: list[subprocess.Popen[bytes]] = []
        self._log = root / "trainer.log"
        self.environment = {
            "MODEL_DIR": str(root / "models"),
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.account.token,
            "SRPU_PRESET": "test",
            "SRPU_TRAINING": json.dumps({"max_steps": 10}),
            "SRPU_RECONCILE_INTERVAL": "1",
            "SRPU_DEBOUNCE": "0.2",
            "SRPU_RETRAIN_GROWTH": "0.3",
            "SRPU_MIN_HOLDOUT_IMAGES": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.settings = Settings(model_dir=root / "models")
        self.projects = Projects(self.settings.model_dir)
        self.projects.remember(
            project_id, url=label_studio.url, token=label_studio.account.token, label_config=CONFIG
        )

    # -- the annotator ---------------------------------------------------------------------------------

    def add_tasks(self, *numbers: int) -> None:
        """Upload micrographs as a person would."""
        for number in numbers:
            _, png = cv2.imencode(".png", _micrograph(number))
            self._send(
                "POST", f"/api/projects/{self.id}/import", files={"file": (_name(number), png.tobytes())}
            )

    def task_ids(self) -> list[int]:
        return sorted(int(row["id"]) for row in self.studio.task_rows(self.id))

    def annotate(self, *task_ids: int) -> None:
        """Draw what is on the image."""
        for id in task_ids:
            results = [_box("matrix", 0, 0, 100, 100), _box("particle", 25, 25, 50, 50)]
            self._send("POST", f"/api/tasks/{id}/annotations/", json={"result": results, "lead_time": 1.0})

    def predictions(self) -> Counter[tuple[int, str]]:
        """How many predictions Label Studio holds for each task and version."""
        held = self._send("GET", f"/api/predictions/?project={self.id}").json()
        return Counter((prediction["task"], prediction["model_version"]) for prediction in held)

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        response = self._session.request(method, f"{self.url}{path}", timeout=30, **arguments)
        response.raise_for_status()
        return response

    # -- the trainer -----------------------------------------------------------------------------------

    def start_trainer(self, **environment: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            trainer = subprocess.Popen(
                [sys.executable, "-m", "srpu_backend", "worker"],
                cwd=ROOT,
                env={**os.environ, **self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        self._trainers.append(trainer)
        return trainer

    def kill_trainers(self) -> None:
        for trainer in self._trainers:
            trainer.kill()
            trainer.wait()

    @property
    def project(self) -> Project:
        return self.projects.get(self.id)

    def champion(self) -> str | None:
        return self.project.registry.champion()

    def eventually(self, condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        tail = self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""
        raise AssertionError(f"{what} never happened; state {self.project.state()!r}\n{tail}")

    def is_training(self) -> bool:
        """The child has read its data and takes steps."""
        for path in self.project.root.glob("work/*/progress.json"):
            if json.loads(path.read_bytes())["stage"] == "train":
                return True
        return False

    def settled(self) -> bool:
        """Everything unlabelled has exactly one prediction of the champion, and nothing runs."""
        champion = self.champion()
        unlabelled = {int(r["id"]) for r in self.studio.task_rows(self.id) if not r["total_annotations"]}
        held = self.predictions()
        return (
            champion is not None
            and self.project.state().run == ""
            and {task for task, version in held if version == champion} >= unlabelled
            and {version for _, version in held} == {champion}
        )


@pytest.fixture
def lab(label_studio: LabelStudioProcess, studio: Any, new_project: Any, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(label_studio, studio, new_project(label_config=CONFIG), tmp_path)
    yield lab
    lab.kill_trainers()


def test_it_learns_tells_and_goes_on_learning(lab: Lab) -> None:
    lab.add_tasks(*range(8))
    tasks = lab.task_ids()
    lab.annotate(*tasks[:4])
    trainer = lab.start_trainer()
    lab.eventually(lab.settled, "the first model")
    first = lab.champion()

    project = lab.studio.project(lab.id)
    assert (project["model_version"], project["sampling"]) == (first, UNCERTAINTY_SAMPLING)
    assert [v["data"]["title"] for v in lab.studio.views(lab.id)].count(TAB_TITLE) == 1
    assert max(lab.predictions().values()) == 1
    state = lab.project.state()
    assert (state.tasks, state.labelled, state.last_error) == (8, 4, "")
    assert state.gate is not None

    lab.add_tasks(8)
    newcomer = lab.task_ids()[-1]
    lab.eventually(lambda: lab.predictions()[newcomer, first or ""] == 1, "the newcomer's prediction")
    assert lab.champion() == first

    lab.annotate(*tasks[4:6])
    lab.eventually(lambda: len(lab.project.registry.versions()) == 2, "the second model")
    lab.eventually(lab.settled, "the second turn")
    assert max(lab.predictions().values()) == 1
    assert [v["data"]["title"] for v in lab.studio.views(lab.id)].count(TAB_TITLE) == 1

    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(20) == 0
    assert not (lab.settings.model_dir / "worker.json").exists()


def test_killed_while_training_and_after_it_ends_as_if_nothing_had_happened(lab: Lab) -> None:
    lab.add_tasks(*range(7))
    tasks = lab.task_ids()
    lab.annotate(*tasks[:3])

    trainer = lab.start_trainer(SRPU_TRAINING=json.dumps({"max_steps": 60, "checkpoint_seconds": 0}))
    lab.eventually(lab.is_training, "the training")
    children = _children_of(trainer.pid)
    assert children
    trainer.kill()
    trainer.wait()
    lab.eventually(lambda: not any(map(_alive, children)), "the end of the orphaned child", 20)
    assert lab.champion() is None

    trainer = lab.start_trainer(SRPU_TRAINING=json.dumps({"max_steps": 60, "checkpoint_seconds": 0}))
    lab.eventually(lab.champion, "the promotion")
    trainer.kill()
    trainer.wait()

    lab.start_trainer()
    lab.eventually(lab.settled, "the write-back")
    history = lab.project.registry.history()
    assert [event.action for event in history] == ["publish", "promote"]
    assert max(lab.predictions().values()) == 1
    assert len(list((lab.project.root / "work").iterdir())) == 1


def test_stopped_politely_while_training_it_resumes(lab: Lab) -> None:
    lab.add_tasks(*range(4))
    lab.annotate(*lab.task_ids()[:3])
    trainer = lab.start_trainer()
    lab.eventually(lab.is_training, "the training")
    children = _children_of(trainer.pid)
    trainer.send_signal(signal.SIGTERM)
    assert trainer.wait(20) == 0
    assert not any(map(_alive, children))
    lab.start_trainer()
    lab.eventually(lab.settled, "the first model")
    assert [event.action for event in lab.project.registry.history()] == ["publish", "promote"]


def test_a_failed_training_says_why_and_the_next_label_starts_another(lab: Lab) -> None:
    lab.add_tasks(*range(5))
    tasks = lab.task_ids()
    lab.annotate(*tasks[:2])
    trainer = lab.start_trainer(SRPU_TRAINING=json.dumps({"encoder": "no-such-encoder"}))
    lab.eventually(lambda: lab.project.state().stage == "failed", "the failure")
    assert "no-such-encoder" in lab.project.state().last_error
    assert lab.champion() is None
    trainer.kill()
    trainer.wait()
    lab.start_trainer()
    lab.annotate(tasks[2])
    lab.eventually(lab.settled, "the first model")
    assert lab.project.state().last_error == ""


def test_cancel_kills_the_training_and_the_same_labels_are_not_tried_again(lab: Lab) -> None:
    lab.add_tasks(*range(3))
    lab.annotate(*lab.task_ids()[:2])
    trainer = lab.start_trainer()
    lab.eventually(lab.is_training, "the training")
    children = _children_of(trainer.pid)
    assert children
    client = JobClient(lab.settings)
    assert client.cancel(lab.id) >= 1  # timer and webhook may both have asked before the first run began
    lab.eventually(lambda: lab.project.state().stage == "cancelled", "the cancellation", 20)
    assert not any(map(_alive, children))
    looked = lab.project.state().last_reconcile
    lab.eventually(lambda: lab.project.state().last_reconcile != looked, "another look", 20)
    assert [job.kind for job in client.queue(lab.id)] == []
    client.train_now(lab.id)
    lab.eventually(lab.champion, "the training that was asked for")
    client.close()


def test_a_second_trainer_is_refused_in_one_sentence(lab: Lab) -> None:
    lab.start_trainer()
    lab.eventually((lab.settings.model_dir / "worker.json").exists, "the heartbeat", 30)
    second = subprocess.run(
        [sys.executable, "-m", "srpu_backend", "worker"],
        cwd=ROOT,
        env={**os.environ, **lab.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode != 0
    assert "Another trainer works on" in second.stderr
    assert "Traceback" not in second.stderr


def _micrograph(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    random = np.random.default_rng(number)
    image = random.normal(80, 12, (SIDE, SIDE))
    image[SIDE // 4 : 3 * SIDE // 4, SIDE // 4 : 3 * SIDE // 4] += 90
    return np.clip(image, 0, 255).astype(np.uint8)


def _name(number: int) -> str:
    """No frame numbers: every image is a group of its own."""
    return f"specimen-{chr(ord('a') + number)}.png"


def _box(label: str, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]}
    return {
        "id": f"{label}-1",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": SIDE,
        "original_height": SIDE,
        "image_rotation": 0,
        "value": value,
    }


def _children_of(pid: int) -> list[int]:
    return [int(id) for id in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] or [
        int(id)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for id in (task / "children").read_text().split()
    ]


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
