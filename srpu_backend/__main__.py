"""The command line: `python -m srpu_backend serve | worker | connect | import | models | …`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from model_zoo.errors import SRPUError

if TYPE_CHECKING:
    from srpu_backend.projects import Project
    from srpu_backend.settings import Settings

Command = Callable[["argparse.Namespace", "Settings"], int]

EXAMPLES = """examples:
  python -m srpu_backend serve                                 the web process Label Studio talks to
  python -m srpu_backend worker                                the trainer
  python -m srpu_backend connect --url http://127.0.0.1:8080 --token TOKEN --project 3
  python -m srpu_backend import micrographs/ --project 3
  python -m srpu_backend status                                what every project is doing
  python -m srpu_backend models --project 3                    versions, and which one serves
  python -m srpu_backend promote v0002-3fa2c1 --project 3
  python -m srpu_backend rollback --project 3

All state lies in MODEL_DIR; srpu_backend/settings.py lists every environment variable."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. What a person did wrong is told in one sentence."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    from srpu_backend.logs import configure_logging
    from srpu_backend.settings import read_settings

    try:
        settings = read_settings()
        configure_logging(settings)
        command: Command = options.command
        return command(options, settings)
    except SRPUError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command and its options; only the module of the asked command is imported."""
    parser = argparse.ArgumentParser(
        prog="python -m srpu_backend",
        description="A Label Studio ML backend for SEM images that keeps learning.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), "")
    _add_processes(commands)
    _add_studio_commands(commands, asked)
    _add_model_commands(commands)
    return parser.parse_args(arguments)


def _add_processes(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser("serve", help="answer Label Studio (SRPU_HOST, PORT, WORKERS, THREADS)")
    serve.set_defaults(command=_serve)
    worker = commands.add_parser("worker", help="run the trainer")
    worker.set_defaults(command=_worker)


def _add_studio_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser], asked: str) -> None:
    for name, module, help in (
        ("connect", "srpu_backend.connect", "connect this backend to a Label Studio project"),
        ("import", "srpu_backend.importing", "import a folder of images into a project"),
    ):
        parser = commands.add_parser(name, help=help)
        if name == asked:
            implementation = importlib.import_module(module)
            implementation.add_arguments(parser)
            parser.set_defaults(command=implementation.run)


def _add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    def add(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=help)
        parser.set_defaults(command=command)
        return parser

    def add_for_project(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        parser = add(name, command, help)
        parser.add_argument("--project", type=int, required=True, metavar="N", help="Label Studio's number")
        return parser

    add_for_project("models", _models, "list a project's model versions")
    promote = add_for_project("promote", _promote, "make a version the champion")
    promote.add_argument("version", help="such as v0002-3fa2c1; see `models`")
    promote.add_argument("--reason", default="promoted from the command line", help="kept in the history")
    rollback = add_for_project("rollback", _rollback, "make the champion before this one champion again")
    rollback.add_argument("--reason", default="rolled back from the command line", help="kept in the history")
    add("status", _status, "what every project is doing, as JSON")
    add_for_project("cancel", _cancel, "cancel a project's waiting and running training")


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from srpu_backend.server import serve

    return serve(settings)


def _worker(options: argparse.Namespace, settings: Settings) -> int:
    from srpu_backend import worker

    return worker.run(settings)


def _models(options: argparse.Namespace, settings: Settings) -> int:
    registry = _project(options, settings).registry
    champion = registry.champion()
    cards = registry.cards()
    for card in reversed(cards):
        mark = "*" if card.version == champion else " "
        classes = ", ".join(info.name for info in card.classes if not info.implicit)
        print(
            f"{mark} {card.version}  {card.created_at:%Y-%m-%d %H:%M}  "
            f"{card.spec.decoder}/{card.spec.encoder}  {card.training_images} training, "
            f"{card.holdout_images} holdout images  ({classes})"
        )
    if not cards:
        print("This project has no model yet.")
    return 0


def _promote(options: argparse.Namespace, settings: Settings) -> int:
    project = _project(options, settings)
    project.registry.promote(options.version, options.reason)
    print(f"{options.version} is the champion of project {project.id}.")
    return _tell_trainer(project, settings)


def _rollback(options: argparse.Namespace, settings: Settings) -> int:
    project = _project(options, settings)
    version = project.registry.rollback(options.reason)
    print(f"{version} is the champion of project {project.id} again.")
    return _tell_trainer(project, settings)


def _tell_trainer(project: Project, settings: Settings) -> int:
    """The backend serves the new champion at once; its predictions are written by the trainer."""
    from srpu_backend.jobs import JobClient

    jobs = JobClient(settings)
    try:
        jobs.champion_changed(project.id)
    finally:
        jobs.close()
    print("The trainer writes its predictions to Label Studio next (see `status`).")
    return 0


def _status(options: argparse.Namespace, settings: Settings) -> int:
    from srpu_backend.jobs import JobClient
    from srpu_backend.status import status

    jobs = JobClient(settings)
    try:
        print(json.dumps(status(settings, jobs.queue), indent=2, ensure_ascii=False))
    finally:
        jobs.close()
    return 0


def _cancel(options: argparse.Namespace, settings: Settings) -> int:
    from srpu_backend.jobs import JobClient

    project = _project(options, settings)
    jobs = JobClient(settings)
    try:
        count = jobs.cancel(project.id)
    finally:
        jobs.close()
    print(f"{count} job(s) of project {project.id} cancelled." if count else "Nothing waits or runs.")
    return 0


def _project(options: argparse.Namespace, settings: Settings) -> Project:
    from srpu_backend.projects import Projects

    return Projects.of(settings).get(options.project)


if __name__ == "__main__":
    sys.exit(main())
