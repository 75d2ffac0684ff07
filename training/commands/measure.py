"""`python -m training measure`: area fractions, particles and their sizes, in tables and figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Normalisation
from model_zoo.errors import SRPUError
from model_zoo.normalisation import picture
from training.commands.command import Bar, Command, add_json_argument, percent
from training.data.classes_file import find_classes_file, read_classes
from training.data.masks import read_mask
from training.data.micrograph import read_micrograph
from training.data.pixel_size import PixelSize, parse_pixel_size, read_pixel_size
from training.data.scan import image_files
from training.data.tables import table_lines
from training.measuring.particles import SMALLEST_PARTICLE
from training.measuring.pictures import (
    PARTICLES_NAME,
    PICTURES_NAME,
    PLOT_NAME,
    SUMMARY_NAME,
    MeasuringSummary,
    Segmented,
    measure_pictures,
)
from training.model_reference import REFERENCES, find_model
from training.predicting.files import mask_files

EXAMPLES = """examples:
  python -m training measure --model alloy-model --images images --out measured
  python -m training measure --masks predictions --classes classes.json --out measured
  python -m training measure --masks predictions --images images --classes classes.json --out measured
  python -m training measure --masks predictions --pixel-size 2.5nm --classes classes.json --out measured

Masks are index PNGs, such as `predict` writes. With --images, pixel sizes are read from them (FEI, Zeiss,
ImageJ; JEOL, Hitachi and TESCAN from the file beside), and an info bar is left out. OUT then holds the tables
pictures.csv and particles.csv, summary.json and measurements.png. Class 0, the matrix, has no particles."""

MASKS_FOLDER = "masks"


class NothingToMeasure(SRPUError):
    """No mask that could be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--masks", type=Path, help="folder of index PNGs")
    source.add_argument("--model", help=f"that makes the masks of --images first: {REFERENCES}")
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="where projects lie (MODEL_DIR)")
    parser.add_argument("--images", type=Path, help="folder of the images; masks have the same stems")
    parser.add_argument("--classes", type=Path, help="classes.json or .yaml (default: in or above --masks)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables, made if need be")
    parser.add_argument("--pixel-size", type=parse_pixel_size, help="such as 2.5nm, for all images")
    parser.add_argument(
        "--smallest",
        type=int,
        default=SMALLEST_PARTICLE,
        metavar="PX",
        help=f"area from which on a region is a particle (default {SMALLEST_PARTICLE})",
    )
    add_json_argument(parser, "the summary")


def run(options: argparse.Namespace) -> int:
    """Measure, and tell the summary; returns the exit code."""
    from training.measuring.figure import draw

    masks_folder: Path = options.masks or _predicted(options)
    path = options.classes or find_classes_file(masks_folder)
    if path is None:
        raise NothingToMeasure(
            f"There is no classes.json in or above {masks_folder}; name the classes with --classes FILE."
        )
    classes = read_classes(path).classes
    masks = mask_files(masks_folder)
    images = _images_by_stem(options.images)
    with Bar() as report:
        pictures = _segmented(masks, masks_folder, images, options.pixel_size, report)
        summary = measure_pictures(pictures, classes, options.out, options.smallest, draw)
    if not summary.pictures:
        raise NothingToMeasure(f"There is no mask in {masks_folder} that could be read; give index PNGs.")
    print(summary.model_dump_json() if options.json else "\n".join(_lines(summary, options.out)))
    return 0


def _predicted(options: argparse.Namespace) -> Path:
    """Let the model make the masks; those it has made before are taken."""
    from training.predicting.prediction import PredictionOptions, predict_with

    if options.images is None:
        raise NothingToMeasure("A model needs images to look at; give their folder with --images.")
    out: Path = options.out / MASKS_FOLDER
    with Bar() as report:
        asked = PredictionOptions(out=out, resume=True)
        summary = predict_with(find_model(options.model, options.model_dir), [options.images], asked, report)
    for image, reason in summary.left_out.items():
        print(f"{image} is left out: {reason}", file=sys.stderr)
    return out


def _images_by_stem(folder: Path | None) -> dict[str, Path]:
    """Path below the folder without its extension → image."""
    return {} if folder is None else {name: path for path, name in image_files(folder)}


def _segmented(
    masks: Sequence[Path],
    root: Path,
    images: dict[str, Path],
    given: PixelSize | None,
    report: Callable[[str, int, int], None],
) -> Iterator[Segmented]:
    """Mask after mask, with what its image tells; one that cannot be read is named and left out."""
    for done, path in enumerate(masks):
        report("measuring", done, len(masks))
        key = path.relative_to(root).with_suffix("").as_posix()
        image = images.get(key)
        try:
            class_map = read_mask(path)
            if image is not None:
                class_map = _without_info_bar(class_map, image)
        except SRPUError as error:
            print(f"{key} is left out: {error}", file=sys.stderr)
            continue
        yield Segmented(key, class_map, given or (read_pixel_size(image) if image is not None else None))


def _without_info_bar(class_map: NDArray[np.uint8], image: Path) -> NDArray[np.uint8]:
    rows = picture(read_micrograph(image)[None], Normalisation()).shape[1]
    return class_map[:rows]


def _lines(summary: MeasuringSummary, out: Path) -> list[str]:
    """For people."""
    rows = [["class", "area", "particles", "d10", "d50", "d90", ""]]
    for found in summary.classes:
        known = found.d50_nm is not None
        in_px, in_nm = (found.d10_px, found.d50_px, found.d90_px), (found.d10_nm, found.d50_nm, found.d90_nm)
        lengths = in_nm if known else in_px
        sizes = ["–" if length is None else f"{length:.4g}" for length in lengths]
        unit = "" if found.d50_px is None else "nm" if known else "px"
        rows.append([found.name, percent(found.area_fraction), str(found.particles), *sizes, unit])
    return [
        f"{summary.pictures} pictures, the pixel size of {summary.with_pixel_size} is known:",
        *table_lines(rows),
        f"Written: {out / PICTURES_NAME}, {PARTICLES_NAME}, {SUMMARY_NAME} and {PLOT_NAME}.",
    ]


COMMAND = Command("measure", "measure area fractions and particle sizes", add_arguments, run, EXAMPLES)
