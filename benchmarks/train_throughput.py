"""Crops learnt from in a second: SRPU's trainer against a plain smp loop, with the same network and batch.

    python benchmarks/train_throughput.py
    python benchmarks/train_throughput.py --steps 100 --crop 512 --batch 16

Ours augments far more, keeps a moving average and writes logs; the plain loop (plain_smp.py) flips and turns.
They take turns and the best median of their steps is compared, so that a busy machine harms both. What a step
of ours consists of is measured with its own parts, one after the other.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import plain_smp
import torch

import model_zoo  # noqa: F401  before torchvision
from model_zoo.architectures import build
from model_zoo.card import ModelSpec
from training.config import load_config
from training.data.dataset import LabelledImages, TrainingCrops, loader
from training.data.manifest import Manifest, Sample
from training.fitting.hardware import find_hardware, resolved
from training.fitting.learner import channels_last
from training.fitting.losses import DiceCrossEntropy, class_weights
from training.fitting.parameter_groups import parameter_groups
from training.fitting.ranks import Ranks
from training.progress import Progress
from training.simulator import SimulatorConfig, write_dataset
from training.supervised import train

SKIPPED = 5  # steps: the first ones set aside memory


class Steps:
    """A clock that counts its calls and remembers when they came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self) -> float:
        self.times.append(time.perf_counter())
        return float(len(self.times))

    @property
    def median(self) -> float:
        """Seconds from one call to the next."""
        times = self.times[SKIPPED:]
        return median(later - earlier for earlier, later in itertools.pairwise(times))


def dataset(folder: Path) -> Manifest:
    """Eight simulated micrographs of 512 × 512 px."""
    write_dataset(folder, 8, 0)
    images, masks = folder / "images", folder / "masks"
    samples = [
        Sample(key=image.stem, image=image, mask=masks / image.name, group=image.stem)
        for image in sorted(images.iterdir())
    ]
    return Manifest(classes=SimulatorConfig.scene("alloy").class_infos, samples=tuple(samples))


def ours(manifest: Manifest, options: argparse.Namespace, precision: str, out: Path) -> float:
    """Seconds a step, as a whole training takes them."""
    steps = Steps()

    def report(progress: Progress) -> None:
        if progress.stage == "train":
            steps()

    train(manifest, config(options, precision), out, report)
    return steps.median


def plain(manifest: Manifest, options: argparse.Namespace) -> float:
    """Seconds a step of the plain loop."""
    steps = Steps()
    plain_smp.CROP, plain_smp.BATCH = options.crop, options.batch
    plain_smp.train(
        [sample.image for sample in manifest.samples],
        [sample.mask for sample in manifest.samples if sample.mask],
        len(manifest.classes),
        options.steps,
        encoder=options.encoder,
        clock=steps,
    )
    return steps.median


def config(options: argparse.Namespace, precision: str) -> Any:
    """Defaults, but for what is compared."""
    settings = [f"encoder={options.encoder}", f"crop={options.crop}", f"batch_size={options.batch}"]
    settings += [f"max_steps={options.steps}", f"precision={precision}", f"threads={options.threads}"]
    return load_config("default", [*settings, "weights=none", "minutes=600"])


def parts(manifest: Manifest, options: argparse.Namespace, precision: str) -> dict[str, float]:
    """Median seconds that the parts of a step of ours take, one after the other."""
    settled = resolved(config(options, precision), find_hardware("auto"), Ranks())
    images = LabelledImages.load(manifest.samples, len(manifest.classes), settled, Path())
    batches = iter(loader(TrainingCrops(images, settled), options.batch, 0, lambda: 0, pin_memory=False))
    spec = {"encoder": options.encoder, "classes": len(manifest.classes)}
    network = channels_last(build(ModelSpec.model_validate(spec))).train()
    loss_of = DiceCrossEntropy(class_weights(images.pixel_counts, settled.class_weight_cap))
    optimiser = torch.optim.AdamW(parameter_groups(network, settled, pretrained=False), lr=settled.lr)
    low = settled.precision == "bfloat16"
    taken: dict[str, list[float]] = {"data": [], "forward": [], "loss": [], "backward": [], "optimiser": []}
    for _ in range(options.steps):
        marks = [time.perf_counter()]
        pixels, truth = next(batches)
        marks.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = network(pixels.contiguous(memory_format=torch.channels_last))
            marks.append(time.perf_counter())
            loss = loss_of(logits, truth.long())
        marks.append(time.perf_counter())
        optimiser.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        optimiser.step()
        marks.append(time.perf_counter())
        for name, begin, end in zip(taken, marks, marks[1:], strict=False):
            taken[name].append(end - begin)
    return {name: median(values[SKIPPED:]) for name, values in taken.items()}


def main() -> None:
    """Measure in turns, and tell."""
    parser = argparse.ArgumentParser(description="Crops a second: SRPU's trainer against a plain smp loop.")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds: dict[str, list[float]] = {"plain": [], "srpu float32": [], "srpu auto": []}
    with TemporaryDirectory() as folder:
        manifest = dataset(Path(folder) / "data")
        for turn in range(options.rounds):
            seconds["plain"].append(plain(manifest, options))
            for name, precision in (("srpu float32", "float32"), ("srpu auto", "auto")):
                out = Path(folder) / f"{precision}-{turn}"
                seconds[name].append(ours(manifest, options, precision, out))
        shares = parts(manifest, options, "auto")
    print(f"{options.encoder}, {options.batch} crops of {options.crop} px a step, {options.threads} threads:")
    base = min(seconds["plain"])
    for name, values in seconds.items():
        best = min(values)
        print(f"  {name:14} {options.batch / best:6.2f} crops/s   × {base / best:.2f}")
    total = sum(shares.values())
    print(
        "a step of ours (auto):", ", ".join(f"{name} {100 * t / total:.0f} %" for name, t in shares.items())
    )


if __name__ == "__main__":
    main()
