"""Train, validation and test parts of a labelled index: groups whole, classes balanced, one seed one split.

Groups are dealt out one after another, each to the part that comes closest to its share of every class and
of the images (greedy stratification, after Sechidis et al. 2011, for groups as scikit-learn's
StratifiedGroupKFold does it), in several random orders of which the best counts. A class that only one group
has goes to training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError
from training.data.findings import Finding, Findings
from training.data.index import Report
from training.data.manifest import Part, Sample
from training.data.manifest_stream import read_class_infos, read_samples, write_samples
from training.data.masks import BadMask, read_mask

PART_FILES: Mapping[Part, str] = {"train": "train.json", "holdout": "val.json", "test": "test.json"}
ALL_NAME = "dataset.json"
"""All parts in one manifest."""
_PARTS: tuple[Part, ...] = ("train", "holdout", "test")
_DEALS = 20_000
"""Groups dealt in all, over all orders tried."""
_MOST_ORDERS = 64
_LEAST_SHARE = 1e-9  # smaller ones are divided by as if they were this large


class BadSplit(SRPUError):
    """Shares or a list of parts that cannot be used."""


@dataclass(frozen=True)
class SplitOptions:
    """How to split."""

    validation: float = 0.15
    """Share of the images that judge models in the making (the manifest's part `holdout`)."""
    test: float = 0.15
    """Share of the images for the final number."""
    seed: int = 0
    test_keys: frozenset[str] | None = None
    """Where given, exactly these images are the test part."""

    def check(self) -> None:
        """Raise `BadSplit` for shares that leave nothing to train on."""
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise BadSplit(
                f"The shares {self.validation} for validation and {self.test} for test must not be negative "
                "and leave a part for training; typical are 0.15 and 0.15."
            )


class SplitSummary(Frozen):
    """Images and groups by part, and the share of each class's pixels by part."""

    images: dict[str, int]
    groups: dict[str, int]
    class_shares: dict[str, dict[str, float]]


@dataclass(frozen=True)
class GroupContent:
    """What a group weighs."""

    name: str
    images: int
    amounts: tuple[float, ...]
    """Of each class, the sum over its images of the share of their pixels."""


def split_index(
    index: Path,
    out: Path,
    options: SplitOptions,
    findings: Findings,
    report: Report = lambda what, done, total: None,
) -> SplitSummary:
    """Write `train.json`, `val.json`, `test.json` and, with all of them, `dataset.json` into `out`.

    Raises `BadManifest` for an index that cannot be read, `BadSplit` for one without a labelled image.
    """
    options.check()
    classes = read_class_infos(index)
    groups, tested = _contents(index, len(classes), options, findings, report)
    if not groups:
        raise BadSplit(
            f"{index} holds no labelled image to train on; index a folder with masks first, and leave images "
            "out of the test part."
        )
    _report_torn(index, options, findings)
    parts = choose_parts(groups, options.validation, 0.0 if options.test_keys else options.test, options.seed)
    _report_missing(parts, options, findings)
    for part in _PARTS:
        chosen = (s for s in _with_parts(index, parts, options.test_keys) if s.part == part)
        write_samples(out / PART_FILES[part], classes, chosen)
    write_samples(out / ALL_NAME, classes, _with_parts(index, parts, options.test_keys))
    return _summary(out, parts, groups, tested, [info.name for info in classes])


def choose_parts(
    groups: Sequence[GroupContent], validation: float, test: float, seed: int
) -> dict[str, Part]:
    """The part of each group, by its name. Training gets one group at least, then validation, then test."""
    ordered = sorted(groups, key=lambda group: group.name)
    weights = _weights(ordered)
    shares = np.array([1.0 - validation - test, validation, test])
    rng = np.random.default_rng(seed)
    forced = _only_holders(ordered)
    best: NDArray[np.int64] | None = None
    lowest = np.inf
    for _ in range(max(1, min(_MOST_ORDERS, _DEALS // len(ordered)))):
        dealt = _deal(rng.permutation(len(ordered)), weights, shares, forced)
        cost = _cost(dealt, weights, shares)
        if best is None or cost < lowest:
            best, lowest = dealt, cost
    if best is None:
        return {}
    return {group.name: _PARTS[part] for group, part in zip(ordered, best.tolist(), strict=True)}


def read_test_keys(path: Path, name: str | None = None) -> frozenset[str]:
    """The test images of a split a lab has made: `{"name": {"train": [stem, …], "test": [stem, …]}}`.

    `name` may be left out where there is one. Raises `BadSplit`.
    """
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        chosen = splits[name] if name else splits if "test" in splits else splits[_only(splits, path)]
        return frozenset(str(key) for key in chosen["test"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadSplit(
            f"{path} does not list a test part ({type(error).__name__}: {error}); write "
            '{"name": {"train": ["a"], "test": ["b"]}}.'
        ) from None


def _only(splits: Mapping[str, object], path: Path) -> str:
    if len(splits) != 1:
        raise BadSplit(
            f"{path} holds the splits {', '.join(splits)}; name one: {path}:{next(iter(splits), '')}"
        )
    return next(iter(splits))


def _contents(
    index: Path, classes: int, options: SplitOptions, findings: Findings, report: Report
) -> tuple[list[GroupContent], NDArray[np.float64]]:
    """The groups to be dealt out, and the amounts (C,) in the test images that were given."""
    images: dict[str, int] = {}
    amounts: dict[str, NDArray[np.float64]] = {}
    tested = np.zeros(classes)
    for done, sample in enumerate(read_samples(index), start=1):
        report("weighing masks", done, 0)
        if sample.mask is None:
            continue
        shares = _shares(sample, classes, findings)
        if options.test_keys and sample.key in options.test_keys:
            tested += shares
            continue
        images[sample.group] = images.get(sample.group, 0) + 1
        amounts[sample.group] = amounts.get(sample.group, np.zeros(classes)) + shares
    return [GroupContent(name, images[name], tuple(amounts[name].tolist())) for name in images], tested


def _shares(sample: Sample, classes: int, findings: Findings) -> NDArray[np.float64]:
    if sample.mask is None:
        return np.zeros(classes)
    try:
        counts = np.bincount(read_mask(sample.mask).ravel(), minlength=256)[:classes].astype(np.float64)
    except BadMask as error:
        findings.add(
            Finding(
                kind="unreadable-mask",
                severity="error",
                where=str(sample.mask),
                message=str(error),
                fix="Save the mask anew as PNG.",
            )
        )
        return np.zeros(classes)
    shares: NDArray[np.float64] = counts / max(counts.sum(), 1.0)
    return shares


def _weights(groups: Sequence[GroupContent]) -> NDArray[np.float64]:
    """(G, 1 + C): the share each group has of all images and of each class; images weigh as all classes."""
    images = np.array([[group.images] for group in groups], np.float64)
    amounts = np.array([group.amounts for group in groups], np.float64).reshape(len(groups), -1)
    columns = np.hstack([images, amounts])
    importance = np.array([float(max(1, amounts.shape[1])), *[1.0] * amounts.shape[1]])
    weights: NDArray[np.float64] = columns / np.maximum(columns.sum(axis=0), 1e-12) * np.sqrt(importance)
    return weights


def _only_holders(groups: Sequence[GroupContent]) -> frozenset[int]:
    amounts = np.array([group.amounts for group in groups]).reshape(len(groups), -1) > 0
    single = amounts.sum(axis=0) == 1
    return frozenset(np.flatnonzero(amounts[:, single].any(axis=1)).tolist())


def _deal(
    order: NDArray[np.int64],
    weights: NDArray[np.float64],
    shares: NDArray[np.float64],
    forced: frozenset[int],
) -> NDArray[np.int64]:
    """The part (0, 1, 2) of each group. Large groups first: they are the hardest to place."""
    largest_first = order[np.argsort(-weights[order].max(axis=1), kind="stable")]
    targets = shares[:, None] * weights.sum(axis=0)
    have = np.zeros_like(targets)
    parts = np.zeros(len(weights), np.int64)
    for group in sorted(largest_first.tolist(), key=lambda number: number not in forced):
        added = ((have + weights[group] - targets) ** 2 - (have - targets) ** 2).sum(axis=1)
        added /= np.maximum(shares, _LEAST_SHARE)  # a small part feels a lack as a large one does
        part = 0 if group in forced else int(np.where(shares > 0, added, np.inf).argmin())
        parts[group] = part
        have[part] += weights[group]
    _leave_none_empty(parts, largest_first, shares, forced)
    return parts


def _leave_none_empty(
    parts: NDArray[np.int64],
    largest_first: NDArray[np.int64],
    shares: NDArray[np.float64],
    forced: frozenset[int],
) -> None:
    """Training first, then validation, then test get a group, as far as there are groups."""
    if not (parts == 0).any():
        parts[largest_first[0]] = 0
    for part in (1, 2):
        if shares[part] <= 0 or (parts == part).any():
            continue
        movable = [g for g in largest_first[::-1].tolist() if parts[g] == 0 and g not in forced]
        if movable and np.count_nonzero(parts == 0) > 1:
            parts[movable[0]] = part
        elif part == 1 and (parts == 2).any():
            parts[parts == 2] = 1


def _cost(parts: NDArray[np.int64], weights: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
    """Squared deviation from the shares; worse: classes that a part lacks though enough groups have them."""
    wanted = np.flatnonzero(shares > 0)
    have = np.stack([weights[parts == part].sum(axis=0) for part in wanted])
    targets = shares[wanted, None] * weights.sum(axis=0)
    enough = (weights > 0).sum(axis=0) >= len(wanted)
    lacking = np.count_nonzero(have[:, enough] == 0)
    deviation = (have - targets) ** 2 / np.maximum(shares[wanted, None], _LEAST_SHARE)
    return float(deviation.sum()) + 100.0 * lacking


def _with_parts(index: Path, parts: Mapping[str, Part], test_keys: frozenset[str] | None) -> Iterator[Sample]:
    for sample in read_samples(index):
        if sample.mask is None:
            continue
        chosen: Part = "test" if test_keys and sample.key in test_keys else parts[sample.group]
        yield sample.model_copy(update={"part": chosen})


def _report_torn(index: Path, options: SplitOptions, findings: Findings) -> None:
    if not options.test_keys:
        return
    inside: dict[str, set[bool]] = {}
    found = 0
    for sample in read_samples(index):
        chosen = sample.key in options.test_keys
        found += chosen
        inside.setdefault(sample.group, set()).add(chosen)
    if found < len(options.test_keys):
        findings.add(
            Finding(
                kind="unknown-test-image",
                severity="error",
                where=str(index),
                message=f"{len(options.test_keys) - found} of the {len(options.test_keys)} test images "
                "listed are not in the index.",
                fix="List images by their stem, or index the folder they are in.",
            )
        )
    for group in sorted(name for name, sides in inside.items() if len(sides) == 2):
        findings.add(
            Finding(
                kind="leakage",
                severity="warning",
                where=group,
                message="the split given tears this group: some of its images are test, others are not.",
                fix="Expect too good a number, or move the whole group to one side.",
            )
        )


def _report_missing(parts: Mapping[str, Part], options: SplitOptions, findings: Findings) -> None:
    wanted = [("holdout", "validation", options.validation)]
    if not options.test_keys:
        wanted.append(("test", "test", options.test))
    for part, name, share in wanted:
        if share > 0 and part not in parts.values():
            findings.add(
                Finding(
                    kind="empty-part",
                    severity="warning",
                    where=name,
                    message=f"there are {len(parts)} groups, too few for a {name} part.",
                    fix="Label images of further sequences or specimens; if a sequence is no recording of "
                    "one place, index again with a --pattern that tells specimens apart.",
                )
            )


def _summary(
    out: Path,
    parts: Mapping[str, Part],
    groups: Sequence[GroupContent],
    tested: NDArray[np.float64],
    classes: Sequence[str],
) -> SplitSummary:
    images = dict.fromkeys(_PARTS, 0)
    seen: dict[str, set[str]] = {part: set() for part in _PARTS}
    for sample in read_samples(out / ALL_NAME):
        images[sample.part] += 1
        seen[sample.part].add(sample.group)
    by_part = {part: np.zeros(len(classes)) for part in _PARTS}
    by_part["test"] += tested
    for group in groups:
        by_part[parts[group.name]] += np.array(group.amounts)
    totals = np.maximum(np.sum(list(by_part.values()), axis=0), 1e-12)
    shares = {
        name: {part: round(float(by_part[part][number] / totals[number]), 4) for part in _PARTS}
        for number, name in enumerate(classes)
    }
    return SplitSummary(
        images=dict(images), groups={part: len(seen[part]) for part in _PARTS}, class_shares=shares
    )
