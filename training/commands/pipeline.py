"""`python -m training pipeline`: folders in, a model and a readable report out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from training.commands.command import Bar, Command, add_json_argument, percent
from training.commands.folder_options import add_folder_options, classes_of, folders_of, index_options_of
from training.commands.training_options import add_training_options, overrides_of
from training.config import load_config
from training.data.findings import Findings
from training.progress import Progress, ProgressFile

EXAMPLES = """examples:
  python -m training pipeline --raw images --labeled masks --classes classes.json --out alloy --minutes 12
  python -m training pipeline --labeled alloy --out alloy-model --minutes 30 --encoder efficientnet-b0
  python -m training pipeline --raw images --labeled masks --out alloy \\
      --encoder mobilenet_v2 --weights mobilenet_v2_imagenet.safetensors

Images without a mask are the unlabelled pool. OUT then holds model/, report/index.html, summary.json and
index/; `predict --model OUT` takes it. The same command goes on where it was interrupted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, made if need be")
    add_folder_options(parser)
    parser.add_argument("--workers", type=int, default=0, help="threads that read (default: one per core)")
    add_training_options(parser)
    add_json_argument(parser, "the summary")


def run(options: argparse.Namespace) -> int:
    """Make a model of the folders and say what came out; returns the exit code."""
    from training.pipeline.page import write_pipeline_report
    from training.pipeline.run import PipelineOptions, run_pipeline

    overrides = overrides_of(options)
    config = load_config(options.preset, overrides, os.environ)
    folders = folders_of(options)
    asked = PipelineOptions(
        folders=folders,
        classes=classes_of(options, folders),
        out=options.out,
        config=config,
        index=index_options_of(options, config.input_depth),
        choose_normalisation=not any(name.startswith("normalisation") for name in overrides),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    file = ProgressFile(options.out)
    findings = Findings()
    with Bar() as bar, Bar(unit="%") as bar_of_training:

        def progress(now: Progress) -> None:
            file(now)
            bar_of_training(now.message, round(100 * (now.fraction or 0.0)), 100)

        result = run_pipeline(asked, findings, bar, progress)
        bar("writing the report", 0, 1)
        page = write_pipeline_report(result, options.out, findings)
    summary = result.summary
    if options.json:
        print(summary.model_dump_json())
        return 0
    for line in findings.lines():
        print(line)
    if summary.held_out_images:
        score = percent(summary.held_out_miou)
        print(f"A rehearsal without {summary.held_out_images} of the images reached mIoU {score} on them.")
    print(f"The model is in {summary.model}, trained on {summary.labeled} images; read {page}.")
    return 0


def folder(options: argparse.Namespace) -> Path:
    """Where error.json is left."""
    return Path(options.out)


COMMAND = Command(
    "pipeline", "make a model of folders, with good defaults", add_arguments, run, EXAMPLES, folder
)
