"""Task → pixels, safely: an image reference becomes a checked file in a content-addressed cache.

`references` says what a reference means and whether it may be followed; `download` brings it, `cache` keeps
it, and `store` is the three together.
"""

from srpu_backend.images.references import ImageUnavailable
from srpu_backend.images.store import ImageStore

__all__ = ["ImageStore", "ImageUnavailable"]
