"""The page itself: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from model_zoo.files import write_atomically
from training.report.content import Report
from training.report.plots import confusion_figure, loss_figure
from training.scoring.scores import Score

TEMPLATE_NAME = "page.html.jinja"
_EMBEDDED_SIDE = 720
_JPEG_QUALITY = 88


def write_report(out: Path, content: Report) -> Path:
    """Write the page to `out`, an HTML file, whole or not at all; returns its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, render(content).encode())
    return out


def render(content: Report) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "place": _place, "span": _span, "embedded": _embedded}
    evaluation, training = content.evaluation, content.training
    return environment.get_template(TEMPLATE_NAME).render(
        report=content,
        confusion=None
        if evaluation is None or not evaluation.evaluation.images
        else _svg(
            confusion_figure(evaluation.evaluation.counts().sum(axis=0), evaluation.evaluation.classes, "svg")
        ),
        loss=None
        if training is None or len(training.curve) < 2
        else _svg(loss_figure(training.curve, "svg")),
    )


def png(pixels: NDArray[np.uint8]) -> bytes:
    """RGB (H, W, 3) as a PNG file."""
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def _embedded(pixels: NDArray[np.uint8]) -> str:
    """RGB (H, W, 3) as a small JPEG in a data URL."""
    scale = min(1.0, _EMBEDDED_SIDE / max(pixels.shape[:2]))
    if scale < 1:
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _svg(data: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _place(value: float) -> str:
    """Where a score lies on its bar, for CSS."""
    return f"{100 * min(max(value, 0.0), 1.0):.2f}%"


def _span(score: Score) -> Sequence[str]:
    """Left end and width of a score's interval on its bar, for CSS."""
    if score.interval is None:
        return ()
    return _place(score.interval.low), _place(score.interval.high - score.interval.low)
