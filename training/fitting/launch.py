"""Several processes for one training, started on this machine and watched.

Each child gets the environment variables that `torchrun` sets, so that both ways lead to the same code. What
torchrun lacks is here: children end with the process that started them, however that ends, and what they
report and why they fail is told to the caller.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from model_zoo.card import CARD_NAME, ModelCard
from model_zoo.errors import SRPUError
from training.config import BadConfig, Resolved, TrainingConfig
from training.data.manifest import Manifest
from training.fitting.ranks import Ranks
from training.progress import Progress

_PORT = "29500"
_LOOK_EVERY = 0.2  # seconds, for children that ended
_TIME_TO_END = 5.0  # seconds, before a child that should end is killed
_BAD_INPUT = 2
_ROOT = Path(__file__).resolve().parents[1]


class ProcessFailed(SRPUError):
    """One of the processes of a training could not go on; the message is what it said."""


@dataclass(frozen=True)
class Machine:
    """This machine among those that share a training."""

    number: int
    address: str
    """Of the first machine."""
    port: str

    @classmethod
    def of(cls, config: TrainingConfig, environment: Mapping[str, str]) -> Machine:
        """Alone, or as MASTER_ADDR, MASTER_PORT and NODE_RANK say; raises `BadConfig`."""
        if config.nodes == 1:
            return cls(0, "127.0.0.1", str(_free_port()))
        number, address = environment.get("NODE_RANK", ""), environment.get("MASTER_ADDR", "")
        if not address or not number.isdigit() or int(number) >= config.nodes:
            raise BadConfig(
                f"`nodes` is {config.nodes}, but the environment does not say which machine this is; set "
                f"MASTER_ADDR to the first machine's name and NODE_RANK to 0 … {config.nodes - 1}, on each."
            )
        return cls(int(number), address, environment.get("MASTER_PORT", _PORT))

    def environment_of(self, place: int, config: TrainingConfig) -> dict[str, str]:
        """What the child number `place` of this machine is told."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        inherited = {"OMP_NUM_THREADS": str(max(1, cores // config.devices)), **os.environ}
        return inherited | {
            "RANK": str(self.number * config.devices + place),
            "WORLD_SIZE": str(config.nodes * config.devices),
            "LOCAL_RANK": str(place),
            "LOCAL_WORLD_SIZE": str(config.devices),
            "GROUP_RANK": str(self.number),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": self.port,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
        }


def needs_processes(config: TrainingConfig, environment: Mapping[str, str]) -> bool:
    """Whether processes are still to be started: several are asked for, and this is none of them."""
    return config.devices * config.nodes > 1 and "RANK" not in environment


def train_in_processes(
    manifest: Manifest,
    config: TrainingConfig,
    out: Path,
    report: Callable[[Progress], None],
    origins: Mapping[str, str],
) -> ModelCard:
    """`training.supervised.train`, in `config.devices` processes on this machine.

    Raises `ProcessFailed` with what the first that failed said, `BadConfig` and `BadRanks`.
    """
    machine = Machine.of(config, os.environ)
    if config.batch_size != "auto":
        Ranks(count=config.devices * config.nodes).share(config.batch_size)
    with TemporaryDirectory() as folder:
        request = Path(folder)
        manifest.write(request / "manifest.json")
        (request / "config.json").write_text(Resolved(config, origins).as_json(), encoding="utf-8")
        command = [sys.executable, "-m", "training.fitting.launch", str(request), str(out)]
        children = [
            subprocess.Popen(
                command,
                env=machine.environment_of(place, config),
                stdin=subprocess.PIPE,  # never written to: the child ends when it closes
                stdout=subprocess.PIPE,
                text=True,
            )
            for place in range(config.devices)
        ]
        try:
            _watch(children, report)
        finally:
            _end(children)
    if not (out / CARD_NAME).exists() and machine.number > 0:
        raise ProcessFailed(
            f"{out} is not shared with the first machine, which has the model; nothing is wrong with it."
        )
    return ModelCard.read(out)


def _watch(children: Sequence[subprocess.Popen[str]], report: Callable[[Progress], None]) -> None:
    """Pass on what the first child reports until all are done."""
    said: queue.Queue[tuple[int, str]] = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(place, child.stdout, said), daemon=True)
        for place, child in enumerate(children)
    ]
    for reader in readers:
        reader.start()
    while True:
        running = any(reader.is_alive() for reader in readers)
        try:
            place, line = said.get(timeout=_LOOK_EVERY if running else 0)
        except queue.Empty:
            if not running:
                break
            _refuse_a_crash(children)
            continue
        message = json.loads(line)
        if "error" in message:
            raise ProcessFailed(message["error"])
        if place == 0:
            report(Progress.model_validate(message))
    for child in children:
        child.wait()
    _refuse_a_crash(children)


def _read(place: int, stream: IO[str] | None, said: queue.Queue[tuple[int, str]]) -> None:
    for line in stream or ():
        if line.startswith("{"):
            said.put((place, line))


def _refuse_a_crash(children: Sequence[subprocess.Popen[str]]) -> None:
    for place, child in enumerate(children):
        code = child.poll()
        if code not in (None, 0, _BAD_INPUT):  # one that is told goes through `said`
            raise RuntimeError(f"Process {place} of {len(children)} ended with {code}; see what it printed.")


def _end(children: Sequence[subprocess.Popen[str]]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(_TIME_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _child(request: Path, out: Path) -> int:
    """One of the processes: reports as lines of JSON."""
    from training.supervised import train
    from training.with_parent import end_with_parent

    end_with_parent(sys.stdin.buffer)
    manifest = Manifest.read(request / "manifest.json")
    asked = json.loads((request / "config.json").read_bytes())
    config = TrainingConfig.model_validate(asked["config"])
    try:
        train(manifest, config, out, lambda now: _say(now.model_dump_json()), asked["origins"])
    except SRPUError as error:
        _say(json.dumps({"error": str(error)}))
        return _BAD_INPUT
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(_child(Path(sys.argv[1]), Path(sys.argv[2])))
