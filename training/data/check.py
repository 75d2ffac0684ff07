"""Is a dataset fit to be learnt from? Everything that would cost a training, found before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import ClassInfo, Frozen
from training.data.findings import Finding, Findings
from training.data.index import Report, unreadable
from training.data.intensity import judge_frame
from training.data.manifest import IGNORE_INDEX, Sample
from training.data.manifest_stream import read_class_infos, read_samples
from training.data.masks import BadMask, read_mask
from training.data.micrograph import BadImage, read_micrograph
from training.data.near_duplicates import Clusters, Descriptions, describe
from training.data.ordered_map import ordered_map

_PLACES = 3


class CheckSummary(Frozen):
    """How much was looked at, and what was found."""

    images: int
    masks: int
    errors: int
    warnings: int
    counts: dict[str, int]
    findings: tuple[Finding, ...]


class _Look(Frozen):
    findings: tuple[Finding, ...] = ()
    description: bytes | None = None
    classes: tuple[int, ...] = ()


def check_manifests(
    paths: Sequence[Path],
    findings: Findings,
    report: Report = lambda what, done, total: None,
    workers: int = 0,
) -> CheckSummary:
    """Check one manifest, or the parts of one dataset in several.

    An image that several of them list is looked at in each: being in two parts is what is searched for.
    """
    classes = _classes(paths, findings)
    seen: set[int] = set()
    images = masks = 0
    with TemporaryDirectory() as folder, Descriptions(Path(folder) / "descriptions.bin") as descriptions:
        leakage = _Leakage(findings)
        samples = (sample for path in paths for sample in read_samples(path))
        for sample, look in ordered_map(lambda one: _look(one, classes), samples, workers):
            images += 1
            masks += sample.mask is not None
            report("checking", images, 0)
            for finding in look.findings:
                findings.add(finding)
            seen.update(look.classes)
            leakage.enter(sample)
            descriptions.add(look.description)
        leakage.report_groups()
        leakage.report_duplicates(descriptions)
    if masks:
        _report_absent(classes, seen, findings)
    return CheckSummary(
        images=images,
        masks=masks,
        errors=findings.count("error"),
        warnings=findings.count("warning"),
        counts=findings.counts,
        findings=findings.kept,
    )


def _classes(paths: Sequence[Path], findings: Findings) -> tuple[ClassInfo, ...]:
    first = read_class_infos(paths[0])
    for path in paths[1:]:
        if [info.name for info in read_class_infos(path)] != [info.name for info in first]:
            findings.add(
                Finding(
                    kind="classes",
                    severity="error",
                    where=str(path),
                    message=f"its classes differ from those of {paths[0]}.",
                    fix="Write all parts from one index.",
                )
            )
    return first


def _look(sample: Sample, classes: Sequence[ClassInfo]) -> _Look:
    try:
        image = read_micrograph(sample.image)
    except BadImage as error:
        return _Look(findings=(unreadable(str(sample.image), str(error)),))
    found = [judge_frame(image, str(sample.image))]
    present: tuple[int, ...] = ()
    if sample.mask is not None:
        try:
            mask = read_mask(sample.mask)
        except BadMask as error:
            found.append(_error("unreadable-mask", sample, str(error), "Save the mask anew as PNG."))
        else:
            found += judge_mask(sample, mask, image, len(classes))
            present = tuple(np.flatnonzero(np.bincount(mask.ravel())).tolist())
    return _Look(
        findings=tuple(finding for finding in found if finding is not None),
        description=describe(image),
        classes=present,
    )


def judge_mask(
    sample: Sample, mask: NDArray[np.uint8], image: NDArray[Any], classes: int
) -> list[Finding | None]:
    """What is wrong with a mask (H, W) of an image (H, W)."""
    found: list[Finding | None] = []
    if mask.shape != image.shape:
        found.append(
            _error(
                "size",
                sample,
                f"the mask is {mask.shape[1]} × {mask.shape[0]} px, its image {image.shape[1]} × "
                f"{image.shape[0]} px.",
                "Save the mask at the size of the image, without smoothing.",
            )
        )
    counts = np.bincount(mask.ravel(), minlength=256)
    for value in np.flatnonzero(counts[:IGNORE_INDEX]).tolist():
        if value >= classes:
            flat = np.flatnonzero(mask == value)[:_PLACES]
            finding = _error(
                "unknown-color",
                sample,
                f"{counts[value]} px have the value {value}, but there are {classes} classes.",
                f"Use 0 to {classes - 1} and 255 for ignore, or index the folder again with all classes.",
            )
            places = tuple((int(at % mask.shape[1]), int(at // mask.shape[1])) for at in flat)
            found.append(finding.model_copy(update={"places": places}))
    if not counts[:IGNORE_INDEX].any():
        found.append(_error("empty-mask", sample, "every pixel is ignored.", "Label it, or remove the mask."))
    elif np.count_nonzero(counts[:IGNORE_INDEX]) == 1:
        only = int(counts[:IGNORE_INDEX].argmax())
        finding = _error(
            "empty-mask",
            sample,
            f"the whole mask is class {only}; was it ever drawn?",
            "Fine if the image shows nothing else; remove the mask if nobody labelled it.",
        )
        found.append(finding.model_copy(update={"severity": "warning"}))
    return found


class _Leakage:
    """Remembers of each image its part, group and key."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._parts_of_group: dict[str, set[str]] = {}
        self._images: list[tuple[str, str, str]] = []

    def enter(self, sample: Sample) -> None:
        self._parts_of_group.setdefault(sample.group, set()).add(sample.part)
        self._images.append((sample.part, sample.group, sample.key))

    def report_groups(self) -> None:
        for group, parts in self._parts_of_group.items():
            torn = sorted(parts - {"pool"})
            if len(torn) > 1:
                self._add("error", group, f"images of this group are in the parts {' and '.join(torn)}.")

    def report_duplicates(self, descriptions: Descriptions) -> None:
        clusters = Clusters(len(self._images))
        for first, second in descriptions.pairs():
            clusters.join(first, second)
        members: dict[int, list[int]] = {}
        for number in range(len(self._images)):
            members.setdefault(clusters.of(number), []).append(number)
        for numbers in members.values():
            self._report_cluster([self._images[number] for number in numbers])

    def _report_cluster(self, images: list[tuple[str, str, str]]) -> None:
        parts = sorted({part for part, _, _ in images} - {"pool"})
        if len(parts) < 2 or len({group for _, group, _ in images}) == 1:  # a torn group is told above
            return
        shown = ", ".join(f"{key} ({part})" for part, _, key in images[:4])
        self._add("error", images[0][2], f"nearly the same image is in {' and '.join(parts)}: {shown}.")

    def _add(self, severity: Any, where: str, message: str) -> None:
        self._findings.add(
            Finding(
                kind="leakage",
                severity=severity,
                where=where,
                message=message + " What is learnt from one part helps on the other.",
                fix="Write the parts anew with `python -m training index --generate-all`, which keeps groups "
                "and near-duplicates together.",
            )
        )


def _report_absent(classes: Sequence[ClassInfo], seen: set[int], findings: Findings) -> None:
    for index, info in enumerate(classes):
        if index not in seen:
            findings.add(
                Finding(
                    kind="absent-class",
                    severity="warning",
                    where=info.name,
                    message="no mask has a pixel of this class.",
                    fix="Label some, or remove the class from the list.",
                )
            )


def _error(kind: str, sample: Sample, message: str, fix: str) -> Finding:
    return Finding(
        kind=kind, severity="error", where=str(sample.mask or sample.image), message=message, fix=fix
    )
