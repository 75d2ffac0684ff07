"""One training shared by several processes: the same model, written once.

On CPUs batch norms cannot look at the crops of other processes, so the network here has none: layer norms in
the encoder, no norms in the decoder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from micrographs import write_manifest
from safetensors.torch import load_file

from model_zoo.card import ModelCard
from training.config import BadConfig, TrainingConfig, load_config
from training.data.manifest import Manifest
from training.fitting.launch import Machine, ProcessFailed, _end, _watch, needs_processes, train_in_processes
from training.fitting.ranks import BadRanks, Ranks
from training.progress import Progress
from training.supervised import train

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "max_steps=6",
    "minutes=60",
    "threads=1",
    "device=cpu",
    "encoder=tu-test_convnext",
    "options.decoder_use_norm=false",
]


def config(*overrides: str) -> TrainingConfig:
    return load_config("test", [*SETTINGS, *overrides])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_manifest(tmp_path_factory.mktemp("data"), ["train", "train", "train", "holdout"])


@pytest.fixture(scope="module")
def alone(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    train(data, config(), out)
    return out


def assert_same_training(one: Path, other: Path) -> None:
    """But for the order in which float32 sums were taken."""
    left, right = ModelCard.read(one), ModelCard.read(other)
    assert right.metrics["loss"] == pytest.approx(left.metrics["loss"], rel=1e-5)
    assert right.metrics["crops"] == left.metrics["crops"]
    state = load_file(other / "model.safetensors")
    for name, tensor in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_one_of_them_writes(
    data: Manifest, alone: Path, tmp_path: Path
) -> None:
    reports: list[Progress] = []
    settings = config("devices=2", "validation=holdout", "validate_every=1.0")
    card = train(data, settings, tmp_path, reports.append)
    assert card.metrics["processes"] == 2
    assert card.metrics["validation"]["step"] == 6
    assert_same_training(alone, tmp_path)
    steps = [report.step for report in reports if report.stage == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in alone.iterdir()}
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


class Killed(BaseException):
    """Stands for a kill: nobody may catch it."""


@pytest.mark.slow
def test_what_one_process_began_two_under_torchrun_can_finish(
    data: Manifest, alone: Path, tmp_path: Path
) -> None:
    def report(progress: Progress) -> None:
        if progress.stage == "train" and progress.step == 3:
            raise Killed

    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(data, config("checkpoint_seconds=0"), out, report)
    data.write(tmp_path / "manifest.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["--manifest", str(tmp_path / "manifest.json"), "--out", str(out), "--preset", "test"]
    done = subprocess.run(
        [*torchrun, "-m", "training", "train", *arguments, "--set", *SETTINGS],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Going on from step 2." in done.stderr
    assert done.stdout.count("6 steps") == 1
    assert_same_training(alone, out)


@pytest.mark.fast
def test_each_process_takes_its_share_of_a_step() -> None:
    assert Ranks(rank=1, count=4).share(8) == 2
    with pytest.raises(BadRanks, match=r"`batch_size` is 6, which 4 processes cannot share .*set it to 8"):
        Ranks(count=4).share(6)


@pytest.mark.fast
def test_a_process_knows_its_place_from_the_environment() -> None:
    assert Ranks.from_environment({}) == Ranks(rank=0, count=1, local_count=1)
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    ranks = Ranks.from_environment(told)
    assert (ranks.rank, ranks.count, ranks.machines, ranks.is_first) == (5, 8, 2, False)
    for wrong in ({"RANK": "9"}, {"WORLD_SIZE": "many"}, {"LOCAL_WORLD_SIZE": "3"}):
        with pytest.raises(BadRanks):
            Ranks.from_environment(told | wrong)


@pytest.mark.fast
def test_machines_are_told_apart_by_the_environment() -> None:
    several = config("devices=2", "nodes=2", "batch_size=8")
    assert needs_processes(several, {})
    assert not needs_processes(several, {"RANK": "0"})
    with pytest.raises(BadConfig, match=r"`nodes` is 2, .*set MASTER_ADDR .*NODE_RANK to 0 … 1"):
        Machine.of(several, {"MASTER_ADDR": "first", "NODE_RANK": "2"})
    second = Machine.of(several, {"MASTER_ADDR": "first", "NODE_RANK": "1"})
    told = second.environment_of(1, several)
    assert {name: told[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")} == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "first",
    }


@pytest.mark.fast
def test_a_batch_that_cannot_be_shared_is_refused_before_anything_starts(
    data: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(BadRanks, match="3 processes cannot share"):
        train_in_processes(data, config("devices=3"), tmp_path, lambda progress: None, {})


def children(*programs: str) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for program in programs
    ]


FOREVER = "import sys; sys.stdin.read()"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("failing", "error", "said"),
    [
        ("""print('{"error": "The mask is no mask."}'); raise SystemExit(2)""", ProcessFailed, "no mask"),
        ("raise SystemExit(1)", RuntimeError, "Process 1 of 2 ended with 1"),
    ],
)
def test_one_that_fails_ends_them_all(failing: str, error: type[Exception], said: str) -> None:
    started = children(FOREVER, failing)
    try:
        with pytest.raises(error, match=said):
            _watch(started, lambda progress: None)
    finally:
        _end(started)
    assert all(child.poll() is not None for child in started)


@pytest.mark.fast
def test_only_the_first_is_listened_to() -> None:
    speaking = """print('{"stage": "train", "step": %d}')"""
    reports: list[Progress] = []
    started = children(speaking % 1, speaking % 2)
    _watch(started, reports.append)
    _end(started)
    assert [report.step for report in reports] == [1]
