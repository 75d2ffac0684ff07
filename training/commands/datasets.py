"""`index`, `split`, `stats` and `check` of the command line: folders of micrographs as datasets."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from pydantic import BaseModel

from model_zoo.errors import SRPUError
from training.commands.command import Bar, Command, add_json_argument
from training.commands.folder_options import add_folder_options, classes_of, folders_of, index_options_of
from training.data.check import CheckSummary, check_manifests
from training.data.findings import Findings
from training.data.index import (
    LABELED_NAME,
    UNLABELED_NAME,
    IndexSummary,
    build_index,
)
from training.data.manifest import Part
from training.data.manifest_stream import read_class_infos, read_samples
from training.data.split import SplitOptions, read_test_keys, split_index
from training.data.statistics import STATISTICS_NAME, measure
from training.data.tables import index_lines, split_lines, statistics_lines

OUT = Path("data")
FOUND_ERRORS = 1

INDEX_EXAMPLES = """examples:
  python -m training index                                   # data/raw and data/labeled into data/
  python -m training index --raw micrographs --labeled masks --classes classes.yaml --out data
  python -m training index --labeled alloy --out data --generate-all      # alloy/images, alloy/masks
  python -m training index --labeled masks --raw images --mask-format color --tolerance 40
  python -m training index --labeled export.json --raw images     # Label Studio's, exported as JSON
  python -m training index --raw films --input-depth 3 --pattern '(?P<sequence>[^/]+)/(?P<frame>\\d+)$'

Masks: index PNGs, colour PNGs, one PNG per class (<image>_<class>.png or <class>/<image>.png), or exports of
Label Studio: --labeled export.json, or a folder with some.
Files that cannot be used are left out and named; the exit code is 0, or 2 where nothing could be used."""

SPLIT_EXAMPLES = """examples:
  python -m training split --index data/master_labeled_dataset.json --out data
  python -m training split --index data/master_labeled_dataset.json --val 0.2 --test 0 --seed 3
  python -m training split --index data/master_labeled_dataset.json --test-from alloy/splits.json:few

Writes train.json, val.json, test.json and dataset.json, which holds all three (val is the part `holdout`)."""

STATS_EXAMPLES = """examples:
  python -m training stats --manifest data/train.json
  python -m training stats --manifest data/master_unlabeled_dataset.json --part pool --out pool_stats.json"""

CHECK_EXAMPLES = """examples:
  python -m training check --manifest data/dataset.json
  python -m training check --manifest data/train.json data/val.json data/test.json
  python -m training check --labeled alloy                   # folders, before anything is written

Exit code 1 when there are errors, 0 when there are none or only warnings."""


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `index`."""
    add_folder_options(parser)
    parser.add_argument(
        "--out", type=Path, default=OUT, help=f"folder for the two JSON files (default {OUT})"
    )
    parser.add_argument("--input-depth", type=int, default=1, metavar="N", help="frames of a stack, odd")
    parser.add_argument("--generate-all", action="store_true", help="split, too")
    _add_split_arguments(parser)
    _add_shared_arguments(parser)


def index(options: argparse.Namespace) -> int:
    """Index, tell what was found and what is wrong; returns the exit code."""
    findings = Findings()
    with Bar() as report:
        summary = _indexed(options, options.out, findings, report)
        _check_usable(summary, findings)
        shared = None
        if options.generate_all:
            shared = split_index(
                options.out / LABELED_NAME, options.out, _split_options(options), findings, report
            )
    _tell(
        options,
        {"index": summary, "split": shared, "out": str(options.out)},
        findings,
        index_lines(summary, options.out) + (split_lines(shared, options.out) if shared else []),
    )
    return 0


class NothingUsable(SRPUError):
    """Folders without one image that can be read."""


def _check_usable(summary: IndexSummary, findings: Findings) -> None:
    if not summary.labeled + summary.unlabeled:
        first = f" The first problem: {findings.kept[0]}" if findings.kept else ""
        raise NothingUsable(f"None of the images can be used, so that there is nothing to index.{first}")


def add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `split`."""
    parser.add_argument(
        "--index",
        type=Path,
        default=OUT / LABELED_NAME,
        help=f"labelled index (default {OUT / LABELED_NAME})",
    )
    parser.add_argument("--out", type=Path, help="folder for the parts (default: the index's)")
    _add_split_arguments(parser)
    _add_shared_arguments(parser)


def split(options: argparse.Namespace) -> int:
    """Split, and tell what is in the parts; returns the exit code."""
    findings = Findings()
    out = options.out or options.index.parent
    with Bar() as report:
        summary = split_index(options.index, out, _split_options(options), findings, report)
    _tell(options, {"split": summary, "out": str(out)}, findings, split_lines(summary, out))
    return 0


def add_stats_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `stats`."""
    parser.add_argument("--manifest", type=Path, required=True, help="index, or a part of a split")
    parser.add_argument("--part", choices=get_args(Part), default="train", help="(default: train)")
    parser.add_argument(
        "--out", type=Path, help=f"JSON file (default: {STATISTICS_NAME} beside the manifest)"
    )
    _add_shared_arguments(parser)


def stats(options: argparse.Namespace) -> int:
    """Measure a part, write the numbers, and tell them; returns the exit code."""
    findings = Findings()
    with Bar() as report:
        measured = measure(
            read_samples(options.manifest),
            read_class_infos(options.manifest),
            options.part,
            findings,
            report,
            options.workers,
        )
    measured.write(options.out or options.manifest.parent / STATISTICS_NAME)
    _tell(options, {"statistics": measured}, findings, statistics_lines(measured))
    return 0


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `check`."""
    parser.add_argument("--manifest", type=Path, nargs="+", help="an index, or all parts of a split")
    add_folder_options(parser)
    parser.add_argument("--input-depth", type=int, default=1, help=argparse.SUPPRESS)
    _add_shared_arguments(parser)


def check(options: argparse.Namespace) -> int:
    """Check manifests or folders; returns 1 when there are errors."""
    findings = Findings()
    with Bar() as report:
        if options.manifest:
            summary = check_manifests(options.manifest, findings, report, options.workers)
        else:
            summary = _checked_folders(options, findings, report)
    lines = [
        f"{summary.images} images and {summary.masks} masks: {summary.errors} errors, "
        f"{summary.warnings} warnings."
    ]
    _tell(options, {"check": summary.model_dump(mode="json", exclude={"findings"})}, findings, lines)
    return FOUND_ERRORS if summary.errors else 0


def _checked_folders(options: argparse.Namespace, findings: Findings, report: Any) -> CheckSummary:
    with TemporaryDirectory() as folder:
        out = Path(folder)
        _indexed(options, out, findings, report)
        return check_manifests([out / LABELED_NAME, out / UNLABELED_NAME], findings, report, options.workers)


def _indexed(options: argparse.Namespace, out: Path, findings: Findings, report: Any) -> IndexSummary:
    folders = folders_of(options)
    asked = index_options_of(options, options.input_depth)
    return build_index(folders, classes_of(options, folders), out, asked, findings, report)


def _split_options(options: argparse.Namespace) -> SplitOptions:
    test_keys = None
    if options.test_from:
        path, _, name = str(options.test_from).partition(".json:")
        test_keys = read_test_keys(Path(f"{path}.json" if name else options.test_from), name or None)
    return SplitOptions(options.val, options.test, options.seed, test_keys)


def _add_split_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--val", type=float, default=0.15, metavar="SHARE", help="(default 0.15)")
    parser.add_argument("--test", type=float, default=0.15, metavar="SHARE", help="(default 0.15)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same parts (default 0)")
    parser.add_argument(
        "--test-from", metavar="FILE[:NAME]", help="take the test part from a splits.json, by stems"
    )


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=0, help="threads that read (default: one per core)")
    add_json_argument(parser, "what was found")


def _tell(options: argparse.Namespace, results: dict[str, Any], findings: Findings, lines: list[str]) -> None:
    """Results on standard output, as JSON or for people; findings on standard error, or in the JSON."""
    if options.json:
        content = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in results.items()
            if value is not None
        }
        content["findings"] = [finding.model_dump(mode="json") for finding in findings.kept]
        content["finding_counts"] = findings.counts
        print(json.dumps(content, ensure_ascii=False))
        return
    for line in findings.lines():
        print(line, file=sys.stderr)
    print("\n".join(lines))


INDEX = Command("index", "list the images and masks of folders", add_index_arguments, index, INDEX_EXAMPLES)
SPLIT = Command(
    "split", "split an index into train, val and test", add_split_arguments, split, SPLIT_EXAMPLES
)
STATS = Command("stats", "measure intensities, classes and sizes", add_stats_arguments, stats, STATS_EXAMPLES)
CHECK = Command(
    "check", "tell whether a dataset is fit to be learnt from", add_check_arguments, check, CHECK_EXAMPLES
)
