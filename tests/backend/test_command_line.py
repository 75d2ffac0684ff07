"""`python -m srpu_backend …`: versions from the shell, help that is quick, errors in one sentence."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_ins import CONFIG, publish

from srpu_backend import jobs
from srpu_backend.__main__ import main
from srpu_backend.projects import Project, Projects

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]


class Recorder:
    """Takes the job client's place."""

    asked: list[tuple[str, int]]

    def __init__(self, settings: object) -> None: ...

    def champion_changed(self, project_id: int) -> None:
        self.asked.append(("champion", project_id))

    def cancel(self, project_id: int) -> int:
        self.asked.append(("cancel", project_id))
        return 1

    def queue(self, project_id: int) -> list[object]:
        return []

    def close(self) -> None:
        self.asked.append(("closed", 0))


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    Recorder.asked = []
    monkeypatch.setattr(jobs, "JobClient", Recorder)
    return Recorder


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    return Projects(tmp_path).remember(1, title="Ni alloy", label_config=CONFIG)


def test_models_marks_the_champion(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--project", "1"]) == 0
    assert "no model yet" in capsys.readouterr().out
    publish(project, 1)
    publish(project, 2)
    main(["models", "--project", "1"])
    newest, oldest = capsys.readouterr().out.splitlines()
    assert newest.startswith("* v0002")
    assert oldest.startswith("  v0001")
    assert "(pore, grain)" in newest


def test_promote_and_roll_back_tell_the_trainer(project: Project, recorder: type[Recorder]) -> None:
    publish(project, 1)
    publish(project, 2)
    assert main(["promote", "v0001-abc001", "--project", "1", "--reason", "better on cracks"]) == 0
    assert project.registry.champion() == "v0001-abc001"
    assert project.registry.history()[-1].reason == "better on cracks"
    assert main(["rollback", "--project", "1"]) == 0
    assert project.registry.champion() == "v0002-abc002"
    assert recorder.asked == [("champion", 1), ("closed", 0)] * 2


def test_cancel(project: Project, recorder: type[Recorder], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cancel", "--project", "1"]) == 0
    assert ("cancel", 1) in recorder.asked
    assert "1 job(s)" in capsys.readouterr().out


def test_status_is_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert json.loads(capsys.readouterr().out)["projects"][0]["title"] == "Ni alloy"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["models", "--project", "9"], "Project 9 is not connected"),
        (["promote", "v0007-abc", "--project", "1"], "There is no version"),
        (["rollback", "--project", "1"], "no earlier champion"),
    ],
)
def test_mistakes_get_one_sentence(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.strip().splitlines()) == 1


def test_a_bad_setting_gets_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "many")
    assert main(["status"]) == 2
    assert "PORT" in capsys.readouterr().err


def test_help_shows_examples_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from srpu_backend.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'dbos', 'onnxruntime', 'cv2', 'falcon', 'gunicorn', 'numpy', 'pydantic'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "examples:" in result.stdout
    assert "heavy: []" in result.stdout


@pytest.mark.parametrize("command", ["connect", "import"])
def test_commands_of_other_modules_show_their_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--project" in capsys.readouterr().out
