"""What is wrong with a dataset: each finding says what, where, and how to mend it."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from model_zoo.card import Frozen

Severity = Literal["error", "warning"]
KEPT_OF_A_KIND = 50


class Finding(Frozen):
    """One thing that is wrong, or may be."""

    kind: str
    """A fixed word for scripts, such as `size` or `unknown-color`."""
    severity: Severity
    where: str
    """The file, image key or group it is about."""
    message: str
    fix: str
    places: tuple[tuple[int, int], ...] = ()
    """Some of the pixels concerned: (x, y) in px from the upper left corner."""

    def __str__(self) -> str:
        places = f" At (x, y) {', '.join(f'({x}, {y})' for x, y in self.places)}." if self.places else ""
        return f"{self.severity}: {self.where}: {self.message}{places} {self.fix}"


class Findings:
    """Collects findings; of each kind the first are kept, the others counted: memory is bounded."""

    def __init__(self, kept_of_a_kind: int = KEPT_OF_A_KIND) -> None:
        self._limit = kept_of_a_kind
        self._kept: list[Finding] = []
        self._counts: Counter[tuple[Severity, str]] = Counter()

    def add(self, finding: Finding) -> None:
        """Keep or count one more."""
        self._counts[finding.severity, finding.kind] += 1
        if self._counts[finding.severity, finding.kind] <= self._limit:
            self._kept.append(finding)

    def extend(self, other: Findings) -> None:
        """Take over what `other` found, with its counts."""
        for finding in other.kept:
            self.add(finding)
        for key, count in other._counts.items():
            self._counts[key] += count - sum((f.severity, f.kind) == key for f in other.kept)

    @property
    def kept(self) -> tuple[Finding, ...]:
        """Errors first, otherwise in the order they were found."""
        return tuple(sorted(self._kept, key=lambda finding: finding.severity != "error"))

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind, those that were not kept included."""
        totals: Counter[str] = Counter()
        for (_, kind), count in self._counts.items():
            totals[kind] += count
        return dict(totals)

    def count(self, severity: Severity) -> int:
        """How many errors, or how many warnings."""
        return sum(count for (found, _), count in self._counts.items() if found == severity)

    def lines(self) -> list[str]:
        """For people: every kept finding, then how many more there are of each kind."""
        shown = Counter(finding.kind for finding in self._kept)
        more = [
            f"… and {count - shown[kind]} more findings of the kind {kind}."
            for kind, count in self.counts.items()
            if count > shown[kind]
        ]
        return [str(finding) for finding in self.kept] + more
