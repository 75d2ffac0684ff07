"""Learning from arrays on disk. Nothing in this package knows that Label Studio exists."""

import os

import model_zoo  # noqa: F401  (makes torchvision importable before smp, timm or lightning)

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
