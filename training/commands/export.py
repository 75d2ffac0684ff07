"""`python -m training export`: a model as one ONNX file for other programs, checked against the model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from model_zoo.errors import SRPUError
from training.commands.command import Bar, Command, add_json_argument
from training.commands.predict import add_model_options
from training.model_reference import find_model

if TYPE_CHECKING:
    from training.predicting.export import Agreement, ExportSummary

DISAGREES = 1

EXAMPLES = """examples:
  python -m training export --model alloy-model --out alloy.onnx
  python -m training export --model runs/first --out alloy.onnx --check-images alloy/images
  python -m training export --model 3/champion --model-dir data/srpu --out alloy.onnx --json

The file takes any number, height and width of images; its metadata and alloy.json beside it say how it must
be fed. Exit code 1, and no file, when it does not answer as the model does."""


class BadFileName(SRPUError):
    """A name that no ONNX file should have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="file to be written")
    parser.add_argument(
        "--check-images", type=Path, metavar="DIR", help="compare on these (default: simulated micrographs)"
    )
    add_json_argument(parser, "the summary")


def run(options: argparse.Namespace) -> int:
    """Export, and say how well it agrees; returns the exit code."""
    if options.out.suffix != ".onnx":
        raise BadFileName(f"{options.out} is no name for an ONNX file; end it in .onnx.")
    from training.predicting.export import export

    folder = find_model(options.model, options.model_dir)
    with Bar(unit="steps") as report:
        summary = export(folder, options.out, options.check_images, report)
    if options.json:
        print(summary.model_dump_json())
    if not summary.agreement.agrees:
        print(
            f"{options.out} is not written: {_difference(summary.agreement)}; serve the model with torch.",
            file=sys.stderr,
        )
        return DISAGREES
    if not options.json:
        print(_line(summary))
    return 0


def _line(summary: ExportSummary) -> str:
    return f"{summary.out}: {summary.bytes / 1e6:.1f} MB; {_difference(summary.agreement)}."


def _difference(agreement: Agreement) -> str:
    kind = "images" if agreement.source == "images" else "simulated micrographs"
    return (
        f"on {agreement.images} {kind} it differs from the model by at most "
        f"{agreement.largest_difference:.1e} (logits reach {agreement.largest_logit:.1f}), and "
        f"{100 * agreement.equal_pixels:.3f} % of the pixels have the same class"
    )


COMMAND = Command("export", "write a model as an ONNX file, and check it", add_arguments, run, EXAMPLES)
