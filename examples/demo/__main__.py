"""The whole system on one machine: `python -m examples.demo`, or `make demo`.

Label Studio, the backend and the trainer run until Ctrl-C; what they know is kept in `.demo/`, one folder
for each data set. Without `--data` the images come from the SEM simulator.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from examples.demo.data import DataFolder, read_folder, slug
from examples.demo.news import News
from examples.demo.once import Round, Summary
from examples.demo.processes import Ports, Stack
from examples.demo.project import DemoProject, prepare
from examples.demo.watchdog import ROOT
from model_zoo.errors import SRPUError
from srpu_backend.locks import Locked, exclusive
from training.simulator import write_dataset

log = logging.getLogger("demo")
STATE = ROOT / ".demo"
SIMULATED_IMAGES, SIMULATED_SEED = 24, 1
SEQUENCES, FRAMES = 2, 4
FIRST_LABELS = 4
"""Tasks that the demo labels by itself where there are masks, so that pre-annotations are shown soon."""
MINUTES = 2.0
PRESET = "quick"
"""A small network: two minutes on two CPU cores must show something."""


def main() -> int:
    """Run the demo; returns the exit code."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    try:
        with _interruptible():
            return _once(arguments) if arguments.once else _run(arguments)
    except KeyboardInterrupt:
        log.info("Stopped; nothing is left running.")
        return 130 if arguments.once else 0
    except SRPUError as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    """Start everything, show where it is, and tell what happens until Ctrl-C."""
    folder = _folder(arguments)
    state = arguments.state or STATE / _state_name(arguments.data)
    state.mkdir(parents=True, exist_ok=True)
    with _alone(state), _stack(arguments, state, folder) as stack:
        demo = prepare(stack, folder, _title(arguments.data))
        _welcome(demo, stack)
        if demo.is_new and folder.masked:
            done = demo.annotator.annotate_next(FIRST_LABELS)
            log.info(
                "%d reference labels were submitted; the first model learns from them now, and "
                "pre-annotations appear when it is ready.",
                len(done),
            )
        news = News(demo.projects, demo.id, log.info)
        while True:
            stack.tend()
            news.tell()
            time.sleep(2)


def _once(arguments: argparse.Namespace) -> int:
    """Play one round in a fresh state; the last line of output is the summary."""
    started = time.monotonic()
    states = arguments.state or STATE
    states.mkdir(parents=True, exist_ok=True)
    state = Path(tempfile.mkdtemp(dir=states, prefix="once-"))
    folder = _folder(arguments).with_masks_only(state / "images")
    with _stack(arguments, state, folder) as stack:
        summary = _play(arguments, stack, folder, started)
    shutil.rmtree(state)  # kept when the round failed: its logs tell why
    print(json.dumps(summary.as_dict()), flush=True)
    return 0


def _play(arguments: argparse.Namespace, stack: Stack, folder: DataFolder, started: float) -> Summary:
    demo = prepare(stack, folder, _title(arguments.data))
    _welcome(demo, stack)
    news = News(demo.projects, demo.id, log.info)

    def tend() -> None:
        stack.tend()
        news.tell()

    deadline = arguments.deadline or 300 + 60 * 3 * _minutes(arguments)
    return Round(demo.projects, demo.id, demo.studio, demo.annotator, deadline, tend).play(started)


def _stack(arguments: argparse.Namespace, state: Path, folder: DataFolder) -> Stack:
    training: dict[str, object] = {"minutes": _minutes(arguments)}
    if arguments.weights:
        training["weights"] = arguments.weights
    ports = Ports.choose(arguments.port, arguments.backend_port, state / "ports.json")
    preset = os.environ.get("SRPU_PRESET", PRESET)
    return Stack(state, ports, folder.source, {"SRPU_PRESET": preset, "SRPU_TRAINING": json.dumps(training)})


def _folder(arguments: argparse.Namespace) -> DataFolder:
    if arguments.data is not None:
        return read_folder(arguments.data.resolve(), [n for n in arguments.labels.split(",") if n])
    simulated = STATE / "simulated-images"
    if not (simulated / "simulation.json").exists():
        log.info("Simulating %d SEM images …", SIMULATED_IMAGES)
        write_dataset(simulated, SIMULATED_IMAGES, SIMULATED_SEED, sequences=SEQUENCES, frames=FRAMES)
    return read_folder(simulated)


def _welcome(demo: DemoProject, stack: Stack) -> None:
    account = stack.studio.account
    log.info(
        "\n  Label Studio  %s/projects/%d/data\n  user          %s\n  password      %s\n"
        "  backend       %s/status\n  state, logs   %s\n",
        stack.studio.url,
        demo.id,
        account.email,
        account.password,
        stack.backend_url,
        stack.state,
    )


def _minutes(arguments: argparse.Namespace) -> float:
    return MINUTES if arguments.minutes is None else float(arguments.minutes)


def _title(data: Path | None) -> str:
    return "Simulated SEM" if data is None else data.resolve().name


def _state_name(data: Path | None) -> str:
    """Readable, and another one for another folder of the same name."""
    if data is None:
        return "simulated"
    path = data.resolve()
    return f"{slug(path.name)}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    try:
        with exclusive(state / ".lock"):
            yield
    except Locked:
        raise SRPUError(f"A demo already runs in {state}; stop it first.") from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the signals that end a program into one exception, once: a second must not stop the stopping."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for known in signals:
            signal.signal(known, signal.SIG_IGN)
        raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {known: signal.signal(known, interrupt) for known in signals}
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of images, or images/ masks/ classes.json")
    parser.add_argument("--labels", default="", help="comma-separated, for a folder without classes.json")
    parser.add_argument("--once", action="store_true", help="play the annotator for one round, then end")
    parser.add_argument("--minutes", type=float, help=f"budget of one training (default {MINUTES:g})")
    parser.add_argument("--weights", default="", help="none, imagenet, or a .safetensors file")
    parser.add_argument("--port", type=int, help="of Label Studio (default 8080, or a free one)")
    parser.add_argument("--backend-port", type=int, help="of the backend (default 9090, or a free one)")
    parser.add_argument("--state", type=Path, help="folder for all that is kept (default .demo/NAME)")
    parser.add_argument("--deadline", type=float, help="seconds that one training may take, with --once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
