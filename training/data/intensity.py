"""Frames there is nothing to learn from: black, white, flat, or driven into saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.findings import Finding

_FLAT = 4 / 255
"""Of the 8-bit range; in 16 bit a detector may use a small part of the range, so only 16 counts."""
_FLAT_COUNTS = 16
_CLIPPED = 0.3
"""Share of the pixels at one end of the range; porous and TEM samples reach 0.2 on purpose."""


def judge_frame(image: NDArray[Any], where: str) -> Finding | None:
    """What is wrong with the intensities of a frame, uint8 or uint16 (H, W); None when nothing is."""
    top = int(np.iinfo(image.dtype).max)
    counts = np.bincount(image.ravel(), minlength=top + 1)
    cumulative = np.cumsum(counts)
    low, high = np.searchsorted(cumulative, np.array([0.001, 0.999]) * image.size).tolist()
    if high - low < (_FLAT * top if top == 255 else _FLAT_COUNTS):
        middle = (low + high) / 2
        kind, what = ("black-frame", "black") if middle < 0.05 * top else ("flat-frame", "of one grey")
        kind, what = ("white-frame", "white") if middle > 0.95 * top else (kind, what)
        return Finding(
            kind=kind,
            severity="error",
            where=where,
            message=f"the frame is {what}: 99.8 % of its pixels lie between {low} and {high}.",
            fix="Remove it, with its mask; was the beam blanked, or the export's range wrong?",
        )
    brightest = int(np.flatnonzero(counts)[-1])  # 12 bits in 16 saturate at 4095
    for level, what in ((brightest, "saturated"), (0, "black")):
        share = float(counts[level]) / image.size
        if share > _CLIPPED:
            return Finding(
                kind="saturated-frame" if level else "clipped-frame",
                severity="warning",
                where=where,
                message=f"{100 * share:.0f} % of its pixels are {what} ({level}); what was there is lost.",
                fix="Record it anew with less contrast, or export it without stretching; else remove it.",
            )
    return None
