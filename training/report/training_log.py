"""The loss of a training, read back from TensorBoard's event files."""

from __future__ import annotations

import logging
from pathlib import Path

_MOST_POINTS = 1000


def read_loss_curve(run: Path, tag: str = "loss") -> tuple[tuple[int, float], ...]:
    """(step, loss) from `run/tensorboard`, at most 1000 of them; empty where there is none."""
    folder = run / "tensorboard"
    if not any(folder.glob("events.out.tfevents.*")):
        return ()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it narrates every file it opens
    events = EventAccumulator(str(folder), size_guidance={"scalars": _MOST_POINTS})
    events.Reload()
    if tag not in events.Tags()["scalars"]:
        return ()
    # A training that was killed and went on has written some steps twice; the later ones count.
    points = {event.step: float(event.value) for event in events.Scalars(tag)}
    return tuple(sorted(points.items()))
