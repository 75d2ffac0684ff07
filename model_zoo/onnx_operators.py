"""The one torch operator our networks need that its ONNX exporter lacks.

Vision transformers resize their position embedding to the image by antialiased bicubic
interpolation. ONNX has had that since opset 18 (`Resize` with `antialias`); torch's exporter never
learnt to say so. What is written is compared with the model by `store.export_onnx` all the same.
"""

from __future__ import annotations

from typing import Any

import torch

OPSET = 18
_INT64 = 7  # onnx.TensorProto.INT64


def declare() -> None:
    """Teach the exporter `aten::_upsample_bicubic2d_aa`; doing it again changes nothing."""
    torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]  # public, but not in __all__
        "aten::_upsample_bicubic2d_aa", _antialiased_bicubic, OPSET
    )


def _antialiased_bicubic(graph: Any, image: Any, size: Any, align_corners: Any, *scales: Any) -> Any:
    """torch's kernel has a = -0.5 and takes no pixels from outside: `exclude_outside`, half-pixel centres."""

    def integers(*values: int) -> Any:
        return graph.op("Constant", value_t=torch.tensor(values))

    nothing = graph.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
    batch_and_channels = graph.op("Slice", graph.op("Shape", image), integers(0), integers(2))
    sizes = graph.op("Concat", batch_and_channels, graph.op("Cast", size, to_i=_INT64), axis_i=0)
    return graph.op(
        "Resize",
        image,
        nothing,
        nothing,
        sizes,
        antialias_i=1,
        mode_s="cubic",
        cubic_coeff_a_f=-0.5,
        coordinate_transformation_mode_s="half_pixel",
        exclude_outside_i=1,
    )
