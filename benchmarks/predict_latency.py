"""How long an annotator waits for a mask: whole requests over HTTP, beside a plain backend.

    python benchmarks/predict_latency.py                    5 requests of 1024×768 and of 2048×1536
    python benchmarks/predict_latency.py --large            and of 4096×4096
    python benchmarks/predict_latency.py --requests 20 --engines all --json
    python benchmarks/predict_latency.py --bulk 1000        "Retrieve predictions": so many in one request

Fetch, decode, inference, encoding and JSON are in it; both get the same images (simulated micrographs, each
new to both) from a static server, and the same U-Net with a ResNet-18, fitted for some seconds so that masks
are masks and not noise. `ours, cached` asks for the same tasks again. Stages are timed by themselves, in this
process. The two take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import orjson
import requests

from model_zoo.card import ClassInfo, ModelCard, ModelSpec
from model_zoo.inference.choice import Example, choose_engine
from model_zoo.inference.engine_record import EngineChoice, Measurable
from model_zoo.inference.processor import processor_name, processor_threads
from model_zoo.integrity import file_hashes
from srpu_backend.projects import Projects
from training.simulator import SimulatorConfig, simulate

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((1024, 768), (2048, 1536))
LARGE = (4096, 4096)
CONFIG = """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">
<Label value="particle" background="#e6194b"/></BrushLabels></View>"""
SCENE = SimulatorConfig.scene("superalloy")
NOBODY = "http://127.0.0.1:1"
"""Label Studio's place: it is not asked for anything."""
STAGES = ("fetch", "decode", "infer", "encode", "json")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files, without a line for each."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """The address where the folder's files are served."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def write_images(folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Names of `count` micrographs of (width, height): cut from one, each at another place."""
    width, height = size
    piece = simulate(SCENE, seed=1).image
    repeats = height // piece.shape[0] + 2, width // piece.shape[1] + 2
    large = np.tile(np.block([[piece, piece[:, ::-1]], [piece[::-1], piece[::-1, ::-1]]]), repeats)
    names = []
    for number in range(count):
        name = f"{width}x{height}-{number}.png"
        top, left = 37 * (number % 12), 53 * (number % 9)
        cv2.imwrite(str(folder / name), large[top : top + height, left : left + width])
        names.append(name)
    return names


def write_model(folder: Path, steps: int) -> Path:
    """A U-Net with a ResNet-18 that has seen some micrographs, as training leaves it."""
    import torch

    from model_zoo.architectures import build
    from model_zoo.normalisation import normalise
    from model_zoo.store import export_onnx, save_model

    torch.manual_seed(0)
    spec = ModelSpec(encoder="resnet18", classes=2)
    card = ModelCard(
        version="",
        created_at=datetime.now(UTC),
        spec=spec,
        classes=(ClassInfo(name="background", implicit=True), ClassInfo(name="particle")),
    )
    model = build(spec)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    truth = simulate(SCENE, seed=0)
    image, mask = normalise(truth.image[None], card.normalisation), truth.mask
    random = np.random.default_rng(0)
    for _ in range(steps):
        corners = random.integers(0, 512 - 128, (4, 2))
        images = torch.from_numpy(np.stack([image[:, y : y + 128, x : x + 128] for y, x in corners]))
        masks = torch.from_numpy(np.stack([mask[y : y + 128, x : x + 128] for y, x in corners]).astype(int))
        loss = torch.nn.functional.cross_entropy(model(images), masks.clamp(max=1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder.mkdir()
    save_model(model.eval(), folder)
    export_onnx(model, spec, folder)
    card.model_copy(update={"files": file_hashes(folder)}).write(folder)
    return folder


def free_port() -> int:
    """A port nobody listens on now."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str], port: int, **variables: str) -> Iterator[tuple[str, int]]:
    """A web process that answers /health: its address and its pid."""
    address = f"http://127.0.0.1:{port}"
    log = subprocess.DEVNULL
    child = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **variables}, stdout=log, stderr=log, process_group=0
    )
    try:
        wait_for(f"{address}/health", child)
        yield address, child.pid
    finally:
        os.killpg(child.pid, 15)
        child.wait(30)


def wait_for(url: str, child: subprocess.Popen[bytes], seconds: float = 180) -> None:
    """Until it answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=60).ok:
                return
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer.")


def ask(address: str, tasks: Sequence[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    """Milliseconds and answer of one /predict."""
    body = orjson.dumps({"tasks": tasks, "project": "1.1", "label_config": CONFIG, "params": {}})
    began = time.perf_counter()
    response = requests.post(
        f"{address}/predict", body, headers={"Content-Type": "application/json"}, timeout=600
    )
    content = response.content
    took = 1e3 * (time.perf_counter() - began)
    answer: dict[str, Any] = orjson.loads(content)
    if not response.ok or any("error" in element for element in answer["results"]):
        raise SystemExit(f"{address} answers: {str(answer)[:300]}")
    return took, answer


def our_stages(url: str, name: str, loaded: Any, store: Any, project: Any) -> dict[str, float]:
    """How long each stage takes for one image, in ms."""
    from srpu_backend.annotator import class_scores
    from srpu_backend.regions import encode_mask, remap
    from training.data.micrograph import read_micrograph

    marks = [time.perf_counter()]

    def done(value: Any) -> Any:
        marks.append(time.perf_counter())
        return value

    path = done(store.fetch(f"{url}/{name}", project.connection))
    stack = done(read_micrograph(path))[None]
    found = done(loaded.predict(stack))
    config, classes = project.label_config, loaded.card.classes
    regions = done(
        encode_mask(
            remap(found.class_map, classes, config), config, class_scores(found, classes, config)
        ).results
    )
    done(orjson.dumps({"results": [{"result": regions}]}))
    return {name: 1e3 * (b - a) for name, (a, b) in zip(STAGES, pairwise(marks), strict=True)}


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """p50 and p95 in ms."""
    return {"p50": round(statistics.median(times), 1), "p95": round(float(np.percentile(times, 95)), 1)}


class Bench:
    """One model, one image server, both backends."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.images = folder / "images"
        self.images.mkdir()
        self.model = write_model(folder / "model", options.steps)
        self.measured = self._choice()

    def _choice(self) -> EngineChoice:
        names = write_images(self.images, SIZES[0], 3)
        stacks = [cv2.imread(str(self.images / name), cv2.IMREAD_GRAYSCALE)[None] for name in names]
        return choose_engine(self.model, [Example(stack) for stack in stacks])

    def engines(self) -> list[Measurable]:
        """Those to measure."""
        found: list[Measurable] = [one.engine for one in self.measured.measured if one.milliseconds]
        if self.options.engines == "all":
            return found
        return ["onnx"] if self.options.engines == "base" else sorted({"onnx", self.measured.engine})

    def sizes(self) -> list[tuple[int, int]]:
        return [*SIZES, LARGE] if self.options.large else list(SIZES)

    @contextlib.contextmanager
    def ours(self, engine: Measurable, url: str) -> Iterator[tuple[str, int, Path]]:
        """Our backend with a version that is served by `engine`."""
        model_dir = self.folder / f"ours-{engine}"
        project = Projects(model_dir).remember(1, label_config=CONFIG, url=NOBODY, token="none")
        version = project.registry.next_version("abc123")
        card = self.measured.model_copy(update={"engine": engine}).on(ModelCard.read(self.model))
        project.registry.publish(self.model, card.model_copy(update={"version": version}))
        project.registry.promote(version, "benchmark")
        port = free_port()
        variables = {"MODEL_DIR": str(model_dir), "PORT": str(port), "LOG_LEVEL": "WARNING"}
        unset = {"LABEL_STUDIO_URL": "", "SRPU_ALLOWED_IMAGE_HOSTS": url.removeprefix("http://")}
        command = [sys.executable, "-m", "srpu_backend", "serve"]
        with process(command, port, **variables, **unset) as (address, pid):
            yield address, pid, model_dir

    def plain(self) -> contextlib.AbstractContextManager[tuple[str, int]]:
        """The plain backend."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--threads", "8", "--timeout", "0"]
        command += ["--bind", f"127.0.0.1:{port}", "benchmarks.plain_backend:app"]
        return process(command, port, MODEL=str(self.model / "model.safetensors"), CLASSES="particle")

    def run(self) -> list[dict[str, Any]]:
        """Rows of the table."""
        rows = []
        with static_server(self.images) as url, contextlib.ExitStack() as stack:
            backends: dict[str, str] = {"plain": stack.enter_context(self.plain())[0]}
            for engine in self.engines():
                backends[f"ours, {engine}"] = stack.enter_context(self.ours(engine, url))[0]
            for size in self.sizes():
                rows += self._size(size, url, backends)
        return rows

    def _size(self, size: tuple[int, int], url: str, backends: dict[str, str]) -> list[dict[str, Any]]:
        count = self.options.requests
        names = write_images(self.images, size, count + 1)
        tasks = [
            {"id": 10_000 * size[0] + number, "data": {"image": f"{url}/{name}"}}
            for number, name in enumerate(names)
        ]
        times: dict[str, list[float]] = {name: [] for name in backends}
        cached: dict[str, list[float]] = {}
        for number, task in enumerate(tasks):  # the first warms up what comes with the size
            for name, address in backends.items():
                took = ask(address, [task])[0]
                if number:
                    times[name].append(took)
        for name, address in backends.items():
            if name != "plain":
                cached[f"{name}, cached"] = [ask(address, [task])[0] for task in tasks[1:]]
        stages = self._stages(url, names[0], list(backends))
        return [
            {"size": f"{size[0]}×{size[1]}", "backend": name, **percentiles(taken)}
            | {"times_plain": round(statistics.median(times["plain"]) / statistics.median(taken), 1)}
            | {"stages": stages.get(name)}
            for name, taken in [*times.items(), *cached.items()]
        ]

    def _stages(self, url: str, image: str, backends: Sequence[str]) -> dict[str, dict[str, float]]:
        """Each backend's stages for one image: the best of two, the first of which warms up."""
        from model_zoo.inference import Predictor
        from srpu_backend.images import ImageStore
        from srpu_backend.settings import Settings

        found = {}
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            settings = Settings(model_dir=Path(temporary), allowed_image_hosts=url.removeprefix("http://"))
            project = Projects(Path(temporary)).remember(1, label_config=CONFIG, url=NOBODY, token="none")
            for engine in [name.removeprefix("ours, ") for name in backends if name != "plain"]:
                loaded = Predictor.load(self.model, engine)  # type: ignore[arg-type]
                found[f"ours, {engine}"] = best(
                    lambda turn, loaded=loaded, engine=engine: our_stages(
                        url, image, loaded, ImageStore(settings, Path(temporary) / f"{engine}{turn}"), project
                    )
                )
        os.environ.update(MODEL=str(self.model / "model.safetensors"), CLASSES="particle")
        from benchmarks import plain_backend

        found["plain"] = best(lambda turn: plain_backend.stages(f"{url}/{image}", plain_backend.plain()))
        return found

    def bulk(self, count: int) -> dict[str, Any]:
        """One request with `count` tasks that are all kept: time, bytes and memory."""
        from srpu_backend.due import config_fingerprint
        from srpu_backend.prediction_files import Prediction, PredictionFiles

        with static_server(self.images) as url, self.ours("onnx", url) as (address, pid, model_dir):
            (name,) = write_images(self.images, SIZES[0], 1)
            data = {"image": f"{url}/{name}"}
            said = ask(address, [{"id": 1, "data": data}])[1]["results"][0]
            project = Projects(model_dir).get(1)
            files = PredictionFiles(project.root, said["model_version"], config_fingerprint(project))
            region = {"value": {"rle": [1] * 20_000}}  # Label Studio sends what it has: 24 MB for 1000
            tasks = [
                {"id": id, "data": data, "predictions": [{"result": [region]}]} for id in range(1, count)
            ]
            for task in tasks:
                files.put(Prediction(task["id"], **said), data)
            before = memory(pid)
            took = [round(ask(address, tasks)[0]) for _ in range(3)]
            return {"tasks": count, "request_mb": round(len(orjson.dumps(tasks)) / 1e6, 1), "ms": took} | {
                "answer_mb": round(count * len(orjson.dumps(said)) / 1e6, 1),
                "rss_mb": {"before": before, "after": memory(pid), "peak": memory(pid, "VmHWM")},
            }


def best(measure: Callable[[int], dict[str, float]]) -> dict[str, float]:
    """The faster of two."""
    return min((measure(turn) for turn in range(2)), key=lambda stages: sum(stages.values()))


def memory(pid: int, field: str = "VmRSS") -> int:
    """MB of the largest process of a group: gunicorn's worker."""
    sizes = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, IndexError, ProcessLookupError):
            if os.getpgid(int(status.parent.name)) == pid:
                sizes.append(int(status.read_text().split(f"{field}:")[1].split()[0]) // 1024)
    return max(sizes)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| image | backend | p50 ms | p95 ms | × plain | " + " | ".join(STAGES) + " |",
        "|---|---|" + "--:|" * (3 + len(STAGES)),
    ]
    for row in rows:
        stages = [f"{row['stages'][name]:.1f}" if row["stages"] else "" for name in STAGES]
        cells = [row["size"], row["backend"], f"{row['p50']:.0f}", f"{row['p95']:.0f}", row["times_plain"]]
        lines.append("| " + " | ".join(map(str, [*cells, *stages])) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5, metavar="N", help="of each size (default 5)")
    parser.add_argument("--large", action="store_true", help="4096×4096 too")
    parser.add_argument(
        "--engines",
        choices=("base", "chosen", "all"),
        default="base",
        help="(default: base, ONNX Runtime; chosen: and the fastest)",
    )
    parser.add_argument("--steps", type=int, default=30, help="of fitting the model (default 30)")
    parser.add_argument("--bulk", type=int, metavar="N", help="instead: one request with so many kept tasks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end with us
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options)
        machine = {"processor": processor_name(), "threads": processor_threads(), "load": os.getloadavg()[0]}
        engines = [one.model_dump() for one in bench.measured.measured]
        found = {"bulk": bench.bulk(options.bulk)} if options.bulk else {"rows": bench.run()}
    report = {**machine, "at": datetime.now(UTC).isoformat(), "engines": engines, **found}
    if options.json or options.bulk:
        print(json.dumps(report))
    else:
        print(f"{machine}\n\n{table(report['rows'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
