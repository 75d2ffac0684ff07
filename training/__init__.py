"""Learning from arrays on disk. Nothing in this package knows that Label Studio exists."""

import os

import model_zoo  # noqa: F401  (makes torchvision importable before smp, timm or lightning)

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Read when torch loads. Threads that wait by spinning take the processor from those they wait for: beside
# other busy processes, a training step on two cores took three times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
