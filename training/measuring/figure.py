"""Area fractions and size distributions, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from model_zoo.card import ClassInfo
from training.measuring.pictures import Tally
from training.overlays import class_colors

_MOST_BARS = 40


def draw(path: Path, classes: Sequence[ClassInfo], tallies: Mapping[str, Tally]) -> None:
    """A PNG: the area fraction of each class but the first over the pictures, and its cumulative sizes."""
    colors = [tuple(color / 255) for color in class_colors(classes)]
    shown = [(info.name, color) for info, color in zip(classes, colors, strict=True)][1:]
    figure = Figure(figsize=(10, 3.4), layout="constrained", dpi=120)
    fractions, sizes = figure.subplots(1, 2)
    for name, color in shown:
        _draw_fractions(fractions, name, color, tallies[name])
        _draw_sizes(sizes, name, color, tallies[name], _in_nanometres(tallies))
    fractions.set_xlabel("picture, in the order of the table")
    fractions.set_ylabel("area fraction (%)")
    fractions.set_ylim(bottom=0)
    sizes.set_xlabel(f"equivalent diameter ({'nm' if _in_nanometres(tallies) else 'px'})")
    sizes.set_ylabel("particles below (%)")
    sizes.set_ylim(0, 100)
    for axes in (fractions, sizes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#d5dbe1", linewidth=0.5)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(path)


def _draw_fractions(axes: Any, name: str, color: tuple[float, ...], tally: Tally) -> None:
    percent = 100 * np.array(tally.fractions)
    marker = "o" if len(percent) <= _MOST_BARS else ""
    axes.plot(np.arange(1, len(percent) + 1), percent, marker=marker, markersize=3, color=color, label=name)
    axes.axhline(percent.mean(), color=color, linewidth=0.8, linestyle="--")


def _draw_sizes(axes: Any, name: str, color: tuple[float, ...], tally: Tally, in_nanometres: bool) -> None:
    diameters = np.sort(tally.nanometres if in_nanometres else tally.diameters)
    if not diameters.size:
        return
    below = 100 * np.arange(1, diameters.size + 1) / diameters.size
    axes.step(diameters, below, where="post", color=color, label=f"{name}, {diameters.size} particles")
    if diameters[-1] > 20 * diameters[0]:
        axes.set_xscale("log")


def _in_nanometres(tallies: Mapping[str, Tally]) -> bool:
    """Only where all sizes are known: px and nm on one axis would mean nothing."""
    return all(len(tally.nanometres) == len(tally.diameters) for tally in tallies.values())
