"""Which groups of images are kept for judging models: chosen once, by hash, never to move.

See docs/decisions/0004-holdout-by-group.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError
from model_zoo.files import write_atomically

_ROUNDING = 1e-9  # 0.1 · 30 must allow 3 images


class BrokenLedger(SRPUError):
    """A holdout ledger that cannot be read; guessing anew would let models train on their own exam."""


class Decisions(Frozen):
    """What the ledger's file says: every group ever seen, on one side or the other."""

    holdout: frozenset[str] = frozenset()
    train: frozenset[str] = frozenset()


class HoldoutLedger:
    """The decisions in one JSON file. One process writes at a time; every write is a rename."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def assign(self, groups: Mapping[str, int], share: float, min_train_groups: int = 2) -> frozenset[str]:
        """Decide on the groups not seen before and return those of `groups` that are holdout.

        Args:
            groups: number of labelled images of each group there is now.
            share: bound on holdout images ÷ all labelled images, in [0, 1], when a group joins.
            min_train_groups: a group joins only while so many others remain for training.

        New groups are taken in the order of the sha256 of their names, so the outcome depends neither on
        the order of `groups` nor on what the images show. A group of which no image is labelled is not
        decided on. A decision holds when labels vanish and come back, and when `share` changes later.
        Raises `BrokenLedger` when the file cannot be read.
        """
        present = {group: count for group, count in groups.items() if count > 0}
        known = self.read()
        decided = _decide(present, known, share, min_train_groups)
        if decided != known:
            self._write(decided)
        return decided.holdout & present.keys()

    def read(self) -> Decisions:
        """All decisions so far; raises `BrokenLedger`."""
        try:
            return Decisions.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Decisions()
        except (ValidationError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise BrokenLedger(
                f"The holdout ledger {self.path} cannot be read ({reason}); restore it from a backup, or "
                "delete it and this project's models, which may have learnt from the next holdout."
            ) from None

    def _write(self, decisions: Decisions) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        ordered = {"holdout": sorted(decisions.holdout), "train": sorted(decisions.train)}
        write_atomically(self.path, json.dumps(ordered, indent=1).encode())


def _decide(present: Mapping[str, int], known: Decisions, share: float, min_train_groups: int) -> Decisions:
    holdout, train = set(known.holdout), set(known.train)
    room = share * sum(present.values()) + _ROUNDING
    held = sum(count for group, count in present.items() if group in holdout)
    remaining = sum(group not in holdout for group in present)
    for group in sorted(present.keys() - holdout - train, key=_hash):
        if held + present[group] <= room and remaining - 1 >= min_train_groups:
            holdout.add(group)
            held += present[group]
            remaining -= 1
        else:
            train.add(group)
    return Decisions(holdout=frozenset(holdout), train=frozenset(train))


def _hash(group: str) -> tuple[str, str]:
    return hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest(), group
