"""`python -m training`, as a shell or the trainer starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from micrographs import write_manifest

from training.__main__ import main
from training.scoring.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[2]
TEST = ["--preset", "test", "--set", "threads=1", "minutes=60"]


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def finish(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What it said, on both streams, once it has ended well."""
    with child:
        output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors.decode()
    return output, errors


def progress(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "progress.json").read_bytes()))
    except FileNotFoundError:
        return {}


@pytest.mark.fast
def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from training.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules, 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
    assert "simulate" in done.stdout


@pytest.mark.fast
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"python -m training {command} --m" in capsys.readouterr().out


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--manifest", "nowhere.json"], "nowhere.json does not exist; give the path of a manifest JSON."),
        (["--manifest", "nowhere.json", "--set", "minuts=1"], "did you mean `minutes`?"),
        (["--manifest", "nowhere.json", "--preset", "fast"], "There is no preset 'fast'"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_sentence_in_both_places(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert said in json.loads((tmp_path / "run" / "error.json").read_bytes())["message"]


@pytest.mark.fast
def test_a_folder_that_is_no_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_manifest(tmp_path, ["holdout"])
    arguments = ["--model", str(tmp_path), "--manifest", str(tmp_path / "manifest.json")]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "run" / "e.json")]) == 2
    assert "is not a model" in capsys.readouterr().err
    assert "is not a model" in (tmp_path / "run" / "error.json").read_text()


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again_it_finishes_and_can_be_measured(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    run = tmp_path / "run"
    manifest = ["--manifest", str(tmp_path / "manifest.json")]
    settings = [*TEST, "max_steps=60", "checkpoint_seconds=0"]
    arguments = ["train", *manifest, "--out", str(run), *settings]
    with start(*arguments) as child:
        wait_until((run / "checkpoints" / "last.ckpt").exists, child)
        child.kill()
    assert not (run / "card.json").exists()

    output, errors = finish(start(*arguments, "--json"))
    assert b"Going on from step" in errors
    card = json.loads(output.splitlines()[-1])
    assert card["metrics"]["steps"] == 60
    assert progress(run)["stage"] == "done"

    out = run / "holdout.json"
    output, _ = finish(
        start("evaluate", "--model", str(run), *manifest, "--part", "holdout", "--out", str(out))
    )
    assert output.decode().startswith("1 holdout images: mIoU ")
    assert Evaluation.model_validate_json(out.read_bytes()).images[0].key == "task-3"


@pytest.mark.slow
def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    run = tmp_path / "run"
    arguments = ["--manifest", str(tmp_path / "manifest.json"), "--out", str(run)]
    arguments += [*TEST, "max_steps=100000", "--with-parent"]
    with start("train", *arguments, stdin=subprocess.PIPE) as child:
        wait_until(lambda: progress(run).get("stage") == "train", child)
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=30) == 75


@pytest.mark.slow
def test_without_with_parent_a_closed_input_changes_nothing(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    run = tmp_path / "run"
    arguments = [
        "train",
        "--manifest",
        str(tmp_path / "manifest.json"),
        "--out",
        str(run),
        *TEST,
        "max_steps=2",
    ]
    finish(start(*arguments, stdin=subprocess.DEVNULL))
