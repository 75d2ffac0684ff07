"""Figures drawn with matplotlib, without pyplot: nothing is kept, no window is looked for."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.scoring.metrics import ratio

Format = Literal["png", "svg"]

_INK, _FAINT, _ACCENT = "#1f2933", "#d5dbe1", "#2563a8"
_MOST_WRITTEN_CLASSES = 12
_LONGEST_NAME = 22
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "srpu",  # the same figure gives the same bytes
}


def confusion_figure(confusion: NDArray[np.int64], names: Sequence[str], format: Format) -> bytes:
    """Rows truth, columns prediction; shaded and written as shares of each row, with the pixels below."""
    shares = ratio(confusion, np.broadcast_to(confusion.sum(axis=1, keepdims=True), confusion.shape))
    side = max(2.6, 0.95 * len(names))
    with rc_context(_STYLE):
        figure = Figure(figsize=(side + 1.5, side + 0.8), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1)
        labels = [_short(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=30 if len(names) > 3 else 0, ha="center")
        axes.set_yticks(range(len(names)), labels)
        axes.set_xlabel("predicted", labelpad=8, fontweight="bold")
        axes.set_ylabel("truth", labelpad=8, fontweight="bold")
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if len(names) <= _MOST_WRITTEN_CLASSES:
            _write_cells(axes, confusion, shares)
        return _bytes(figure, format)


def loss_figure(curve: Sequence[tuple[int, float]], format: Format) -> bytes:
    """The loss over the steps, as it was and smoothed."""
    steps, losses = (np.array(values, dtype=np.float64) for values in zip(*curve, strict=True))
    smooth = _smoothed(losses, max(1, len(losses) // 40))
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(steps, losses, color=_FAINT, linewidth=0.8)
        axes.plot(steps, smooth, color=_ACCENT, linewidth=1.8)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
        axes.set_ylim(0, max(float(np.percentile(losses, 99)), float(smooth.max())) * 1.05 or 1.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=_FAINT, linewidth=0.5)
        return _bytes(figure, format)


def _write_cells(axes: Any, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(confusion):
        share = shares[row, column]
        text = "–" if np.isnan(share) else f"{100 * share:.1f} %\n{_pixels(int(count))}"
        color = "white" if share > 0.55 else _INK
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _pixels(count: int) -> str:
    for size, unit in ((10**9, " Gpx"), (10**6, " Mpx"), (10**3, " kpx")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count} px"


def _smoothed(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Mean over up to `reach` neighbours on either side."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    smooth: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smooth


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _bytes(figure: Figure, format: Format) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, dpi=160, metadata={"Date": None} if format == "svg" else None)
    return buffer.getvalue()
