"""The yardstick: the short script that one writes with segmentation_models_pytorch in an afternoon.

U-Net, cross-entropy + Dice, AdamW at a fixed rate, random crops, flips and quarter turns, ImageNet's mean and
deviation; the last weights are the model. Nothing of SRPU is used.

    python benchmarks/plain_smp.py --set ../shared/data/nasa_super --minutes 12 --out /tmp/plain

trains on the train part of the set's default split and writes index PNGs of its test part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import model_zoo  # noqa: F401  lets torchvision be imported beside a CPU build of torch; no more of ours

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

CROP, BATCH, RATE = 256, 4, 1e-3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Crops(Dataset):
    """One random crop of each image an epoch."""

    def __init__(self, images: Sequence[Path], masks: Sequence[Path]) -> None:
        self.images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in images]
        self.masks = [np.array(Image.open(path)) for path in masks]
        self.change = A.Compose(
            [
                A.PadIfNeeded(CROP, CROP, border_mode=cv2.BORDER_REFLECT_101),
                A.RandomCrop(CROP, CROP),
                A.HorizontalFlip(),
                A.VerticalFlip(),
                A.RandomRotate90(),
                A.Normalize(MEAN, STD),
                ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return max(len(self.images), BATCH)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        place = index % len(self.images)
        changed = self.change(image=self.images[place], mask=self.masks[place])
        return changed["image"], changed["mask"].long()


def train(
    images: Sequence[Path],
    masks: Sequence[Path],
    classes: int,
    seconds: float,
    seed: int = 0,
    encoder: str = "resnet18",
    weights: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[torch.nn.Module, int]:
    """The model after `seconds` of `clock`, and its number of steps."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    model = smp.Unet(encoder, encoder_weights=None, in_channels=3, classes=classes)
    if weights is not None:
        model.encoder.load_state_dict(load_file(weights))
    crops = Crops(images, masks)
    crops.change.set_random_seed(seed)
    loader = DataLoader(crops, batch_size=BATCH, shuffle=True, drop_last=True)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)
    entropy = torch.nn.CrossEntropyLoss(ignore_index=255)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    steps, end = 0, clock() + seconds
    model.train()
    while clock() < end:
        for batch, truth in loader:
            logits = model(batch)
            loss = entropy(logits, truth) + dice(logits, truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
            if clock() >= end:
                break
    return model.eval(), steps


def predict(model: torch.nn.Module, image: Path) -> np.ndarray:
    """Class indices of a whole image, padded to a multiple of 32: uint8 (H, W)."""
    pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
    height, width = pixels.shape[:2]
    pixels = cv2.copyMakeBorder(pixels, 0, -height % 32, 0, -width % 32, cv2.BORDER_REFLECT_101)
    batch = ToTensorV2()(image=A.Normalize(MEAN, STD)(image=pixels)["image"])["image"][None]
    with torch.inference_mode():
        answer = model(batch).argmax(dim=1)[0].numpy().astype(np.uint8)
    return answer[:height, :width]


def main() -> None:
    """Train on a set's train part, segment its test part."""
    parser = argparse.ArgumentParser(description="Train on a set's train part, segment its test part.")
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="minutes × threads of processor time")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    content = json.loads((options.set / "classes.json").read_text())
    split = json.loads((options.set / "splits.json").read_text())[content["default_split"]]
    model, steps = train(
        [options.set / "images" / f"{name}.png" for name in split["train"]],
        [options.set / "masks" / f"{name}.png" for name in split["train"]],
        len(content["classes"]),
        60 * options.minutes * (options.threads if options.cpu_time else 1),
        options.seed,
        options.encoder,
        options.weights,
        time.process_time if options.cpu_time else time.monotonic,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for name in split["test"]:
        answer = predict(model, options.set / "images" / f"{name}.png")
        Image.fromarray(answer).save(options.out / f"{name}.png")
    print(json.dumps({"steps": steps}))


if __name__ == "__main__":
    main()
