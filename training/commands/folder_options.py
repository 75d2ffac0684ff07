"""The options that say where images and masks are and how they are read, shared by all that index folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from training.data.classes_file import ClassList, find_classes_file, read_classes
from training.data.index import IndexOptions
from training.data.mask_formats import MaskFormat
from training.data.names import compile_pattern
from training.data.scan import Folders

RAW, LABELED = Path("data/raw"), Path("data/labeled")


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument("--raw", type=Path, help=f"folder of images (default {RAW} where neither is given)")
    parser.add_argument(
        "--labeled",
        type=Path,
        help=f"folder of masks, or of images/ and masks/, or a Label Studio export (default {LABELED})",
    )
    parser.add_argument(
        "--classes", type=Path, help="classes.json or .yaml (default: looked for in and above the folders)"
    )
    parser.add_argument("--mask-format", choices=get_args(MaskFormat), default="auto", help="(default: auto)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="D",
        help="colours within this RGB distance (0 to 442) count as the nearest class's (default 0: exact)",
    )
    parser.add_argument("--pattern", help="regular expression with (?P<sequence>…) and (?P<frame>…)")
    parser.add_argument("--no-near-duplicates", action="store_true", help="do not look for them")


def folders_of(options: argparse.Namespace) -> Folders:
    """What was asked for; the default folders only where neither was named."""
    if options.raw is None and options.labeled is None:
        return Folders(*(folder if folder.is_dir() else None for folder in (RAW, LABELED)))
    return Folders(options.raw, options.labeled)


def classes_of(options: argparse.Namespace, folders: Folders) -> ClassList | None:
    """The classes of `--classes`, else of a file in or above the folders; None where there is none."""
    path = options.classes or find_classes_file(
        *(folder for folder in (folders.labeled, folders.raw) if folder is not None)
    )
    return read_classes(path) if path else None


def index_options_of(options: argparse.Namespace, input_depth: int) -> IndexOptions:
    """How the folders are to be looked at."""
    return IndexOptions(
        pattern=compile_pattern(options.pattern) if options.pattern else None,
        input_depth=input_depth,
        mask_format=options.mask_format,
        tolerance=options.tolerance,
        near_duplicates=not options.no_near_duplicates,
        workers=options.workers,
    )
