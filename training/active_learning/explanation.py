"""Why an image was chosen, in words an annotator understands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.active_learning.choice import Batch
from training.active_learning.pool import CONTROL, Pick, Pool

_SAMPLE = 2000  # images the typical distance is told from


class Explanations:
    """Sentences about the picks of one batch."""

    def __init__(self, pool: Pool, batch: Batch) -> None:
        self._pool = pool
        self._clusters = batch.clusters
        self._sizes = np.bincount(batch.clusters[batch.clusters >= 0])
        labeled = batch.clusters[pool.labeled & (batch.clusters >= 0)]
        self._labels = np.bincount(labeled, minlength=len(self._sizes))
        self._distance = _distances_to_labeled(pool, batch)

    def of(self, pick: Pick) -> str:
        """One or two sentences on one pick."""
        if pick.cause == "last":
            return "It could not be judged (see the notes), so it comes last."
        if pick.arm == CONTROL:
            return f"{self._drawn(pick)} It is a control that shows whether the ranking helps."
        parts = [self._cause(pick), self._kind(pick), self._far(pick)]
        return " ".join(part for part in parts if part)

    def _drawn(self, pick: Pick) -> str:
        if self._pool.answers is None or pick.about < 0:
            return "Drawn at random."
        return f"Drawn at random among the images in which the model sees {self._class(pick.about)}."

    def _cause(self, pick: Pick) -> str:
        if pick.cause == "random":
            return self._drawn(pick)
        answers = self._pool.answers
        if pick.cause == "class" and answers is not None:
            above = _share_below(answers.by_class[:, pick.about], pick.row)
            return f"The model is unsure of {self._class(pick.about)} here{above}."
        if pick.cause == "uncertain" and answers is not None:
            doubt = int(np.argmax(answers.by_class[pick.row]))
            above = _share_below(answers.uncertainty[pick.measure], pick.row)
            return f"The model is unsure here{above}, most of all of {self._class(doubt)}."
        if pick.cause == "cover":
            return f"Together with what looks like it, it stands for {_percent(pick.score)} of all images."
        if pick.cause == "typical":
            return ""  # told with its kind
        return "" if pick.row in self._distance else "It looks unlike the others."

    def _far(self, pick: Pick) -> str:
        times = self._distance.get(pick.row)
        if times is None:
            return ""
        if times >= 1.15:
            return f"It looks {times:.1f} times as far from everything labelled as a typical image does."
        if times <= 0.85:
            return "Something much like it is labelled already."
        return "It looks about as far from everything labelled as a typical image does."

    def _kind(self, pick: Pick) -> str:
        cluster = int(self._clusters[pick.row])
        if cluster < 0:
            return ""
        size, labels = int(self._sizes[cluster]), int(self._labels[cluster])
        if size == 1:
            return f"No other image looks like it (kind {cluster})."
        have = {0: "none has a label", 1: "one has a label"}.get(labels, f"{labels} have labels")
        if pick.cause == "typical":
            return f"It is typical of {size} images that look alike (kind {cluster}), of which {have}."
        return f"{size} images look like this (kind {cluster}); of these {have}."

    def _class(self, index: int) -> str:
        answers = self._pool.answers
        return f"“{answers.classes[index]}”" if answers is not None and index >= 0 else "a class"


def _distances_to_labeled(pool: Pool, batch: Batch) -> dict[int, float]:
    """Of each picked row to the nearest labelled image, over the median of the pool; empty without either."""
    known = np.flatnonzero(pool.labeled & (batch.clusters >= 0))
    others = np.flatnonzero(pool.unlabeled & (batch.clusters >= 0))
    if pool.embeddings is None or not known.size or not others.size:
        return {}
    sample = others[:: -(-len(others) // _SAMPLE)]
    typical = float(np.median(_nearest(pool.embeddings, sample, known)))
    rows = np.array([pick.row for pick in batch.picks if batch.clusters[pick.row] >= 0], np.int64)
    if typical <= 0 or not rows.size:
        return {}
    near = _nearest(pool.embeddings, rows, known)
    return dict(zip(rows.tolist(), (near / typical).tolist(), strict=True))


def _nearest(points: NDArray[Any], rows: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.float32]:
    """Distance of each of `rows` to the nearest of `known`: float32."""
    some = np.asarray(points[rows], np.float32)
    own = np.einsum("ij,ij->i", some, some)
    nearest = np.full(len(rows), np.inf, np.float32)
    for start in range(0, len(known), 1024):
        centers = np.asarray(points[known[start : start + 1024]], np.float32)
        squares = np.einsum("ij,ij->i", centers, centers)
        nearest = np.minimum(nearest, (own[:, None] + squares - 2 * (some @ centers.T)).min(axis=1))
    distances: NDArray[np.float32] = np.sqrt(np.maximum(nearest, 0))
    return distances


def _share_below(scores: NDArray[np.float32], row: int) -> str:
    """`, more than in 93 % of …`; nothing where that is no news."""
    known = scores[np.isfinite(scores)]
    below = float(np.mean(known < scores[row]))
    return f", more than in {_percent(below)} of the images it looked at" if below >= 0.5 else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
