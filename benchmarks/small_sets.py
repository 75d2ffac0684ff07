"""What one learns from a handful of labelled micrographs: `pipeline` as it is against a plain smp script.

    python benchmarks/small_sets.py --out /tmp/small-sets             # 12 minutes each, three seeds
    python benchmarks/small_sets.py --out /tmp/small-sets --weights mobilenet_v2_imagenet.safetensors
    python benchmarks/small_sets.py --out /tmp/small-sets --table

Both learn from the train part of each set's default split, with equal time and threads, and are scored on its
test part, which neither has seen. What was done is not done again: the runs can be spread over many nights.
Minutes are minutes of the clock: let nothing else run, or give `--cpu-time`, where a minute is as much
processor time as `--threads` can use in one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.data.masks import read_mask
from training.scoring.metrics import confusion, iou

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SETS = ("nasa_super", "dtsegnet", "nanocomposite", "tem_sintering", "axon_sem")
KINDS = ("srpu", "plain")


@dataclass(frozen=True)
class Run:
    """One training of one kind."""

    kind: str
    name: str
    seed: int
    minutes: float
    threads: int
    encoder: str
    weights: str
    cpu_time: bool
    more: str

    @property
    def folder(self) -> str:
        """Named after all that decides it."""
        start = Path(self.weights).stem
        clock = "cpu" if self.cpu_time else "wall"
        name = f"{self.kind}-{self.name}-{self.encoder}-{start}-{self.minutes:g}x{self.threads}{clock}"
        return f"{name}-seed{self.seed}" + (f"-{self.more}" if self.more else "")


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """Seed by seed and set by set, so that what is done first is already a table."""
    for seed in options.seeds:
        for name in options.sets:
            for kind in options.kinds:
                yield Run(
                    kind,
                    name,
                    seed,
                    options.minutes,
                    options.threads,
                    _encoder(kind, options),
                    options.weights,
                    options.cpu_time,
                    " ".join(options.set) if kind == "srpu" else "",
                )


def _encoder(kind: str, options: argparse.Namespace) -> str:
    """Ours from random weights takes whatever its defaults say."""
    if options.weights != "none":
        return "mobilenet_v2"
    return "default" if kind == "srpu" else str(options.encoder)


def split_of(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Class names, and the stems of the train and the test part."""
    content = json.loads((folder / "classes.json").read_text())
    split = json.loads((folder / "splits.json").read_text())[content["default_split"]]
    return [info["name"] for info in content["classes"]], split["train"], split["test"]


def do(run: Run, data: Path, out: Path) -> dict[str, object]:
    """Train and predict in child processes; the scores."""
    source, folder = data / run.name, out / run.folder
    names, train, test = split_of(source)
    folder.mkdir(parents=True, exist_ok=True)
    for part, stems in (("train", train), ("test", test)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            for stem in stems:
                link = folder / part / kind / f"{stem}.png"
                if not link.exists():
                    link.symlink_to(source / kind / f"{stem}.png")
    steps = _srpu(run, source, folder) if run.kind == "srpu" else _plain(run, source, folder)
    counts = sum(
        confusion(
            read_mask(source / "masks" / f"{stem}.png"),
            read_mask(folder / "predictions" / f"{stem}.png"),
            len(names),
        )
        for stem in test
    )
    scores = iou(np.asarray(counts))
    by_class = {name: round(float(score), 4) for name, score in zip(names, scores, strict=True)}
    return {**asdict(run), "steps": steps, "iou": by_class, "miou": round(float(np.nanmean(scores)), 4)}


def _srpu(run: Run, source: Path, folder: Path) -> int:
    command = [sys.executable, "-m", "training", "pipeline", "--raw", str(folder / "train" / "images")]
    command += ["--labeled", str(folder / "train" / "masks"), "--classes", str(source / "classes.json")]
    command += ["--out", str(folder / "pipeline"), "--minutes", f"{run.minutes}", "--weights", run.weights]
    command += ["--threads", f"{run.threads}", "--seed", f"{run.seed}", "--json"]
    command += ["--encoder", run.encoder] if run.encoder != "default" else []
    settings = [*run.more.split(), *(["clock=processor"] if run.cpu_time else [])]
    command += ["--set", *settings] if settings else []
    answer = _run(command, folder)
    model, images = str(folder / "pipeline"), str(folder / "test" / "images")
    predict = [sys.executable, "-m", "training", "predict", "--model", model, "--images", images]
    _run([*predict, "--out", str(folder / "predictions")], folder)
    return int(json.loads(answer)["steps"])


def _plain(run: Run, source: Path, folder: Path) -> int:
    command = [sys.executable, str(ROOT / "benchmarks" / "plain_smp.py"), "--set", str(source)]
    command += ["--minutes", f"{run.minutes}", "--seed", f"{run.seed}", "--threads", f"{run.threads}"]
    command += ["--encoder", run.encoder, "--out", str(folder / "predictions")]
    command += ["--weights", run.weights] if run.weights != "none" else []
    command += ["--cpu-time"] if run.cpu_time else []
    return int(json.loads(_run(command, folder))["steps"])


def _run(command: list[str], folder: Path) -> str:
    with (folder / "log.txt").open("a") as log:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            check=True,
            text=True,
        )
    return done.stdout.strip().splitlines()[-1]


def table(results: list[dict[str, object]]) -> list[str]:
    """Mean and range over the seeds, in Markdown."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for result in results:
        scores[str(result["name"]), str(result["kind"])].append(100 * float(str(result["miou"])))
    lines = ["| set | plain smp script | SRPU | difference |", "| --- | --- | --- | --- |"]
    for name in SETS:
        plain, ours = scores[name, "plain"], scores[name, "srpu"]
        if plain and ours:
            gain = float(np.mean(ours) - np.mean(plain))
            lines.append(f"| {name} | {_spread(plain)} | {_spread(ours)} | {gain:+.1f} |")
    return lines


def _spread(values: list[float]) -> str:
    single = f"{np.mean(values):.1f}"
    return single if len(values) == 1 else f"{single} ({min(values):.1f}–{max(values):.1f})"


def main() -> None:
    """Do what is missing, tell what is there."""
    parser = argparse.ArgumentParser(description="`pipeline` with its defaults against a plain smp script.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoder", default="resnet18", help="of the plain script, from random weights")
    parser.add_argument("--weights", default="none", help="file for mobilenet_v2, for both")
    parser.add_argument("--set", nargs="+", default=[], help="settings of ours to try")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--table", action="store_true", help="only tell what there is")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(
            f"{options.data} is missing; give --data with sets of images/ masks/ classes.json splits.json."
        )
    results = []
    for run in runs(options):
        path = options.out / run.folder / "result.json"
        if not path.is_file() and not options.table:
            result = do(run, options.data, options.out)
            path.write_text(json.dumps(result))
            print(
                f"{run.folder}: {result['miou']} {result['iou']} in {result['steps']} steps", file=sys.stderr
            )
        if path.is_file():
            results.append(json.loads(path.read_text()))
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
