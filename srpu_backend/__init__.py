"""The Label Studio side: serve, listen, rank, write back."""

import model_zoo  # noqa: F401  (makes torchvision importable before anything that needs it)
