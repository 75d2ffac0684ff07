"""Lets torchvision import where its wheel's compiled operators do not load.

torchvision's PyPI wheel is linked against CUDA builds of torch. Beside a CPU build its extension is
skipped in silence, and `torchvision._meta_registrations` then fails on operators nobody declared
(`operator torchvision::nms does not exist`), taking smp, timm, torchmetrics and lightning with it.
We declare the two operators just before that module runs, and only there: where the compiled
operators load, nothing changes. torchvision.ops.nms and torchvision.io stay unusable; we use neither.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_TARGET = "torchvision._meta_registrations"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []  # a torch.library.Library undeclares its operators when it is collected


class _BeforeMetaRegistrations(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _TARGET and not _libraries:
            _declare_operators()
        return None  # the ordinary finders do the import


def _declare_operators() -> None:
    extension = sys.modules.get("torchvision.extension")
    if extension is None or extension._has_ops():
        return
    import torch.library  # only where torchvision is being imported anyway

    declare: Any = torch.library.Library  # untyped in torch
    library = declare("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)


def declare_when_missing() -> None:
    """Install the hook, once; costs nothing until torchvision is imported."""
    if not any(isinstance(finder, _BeforeMetaRegistrations) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeMetaRegistrations())
