"""The demo's project in Label Studio: made at the first start, found again at the next."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from examples.demo.annotator import ReferenceAnnotator
from examples.demo.data import DataFolder, label_config
from examples.demo.processes import Stack
from model_zoo.files import write_atomically
from srpu_backend.connect import BACKEND_TITLE, ConnectReport, connect
from srpu_backend.importing import import_folder
from srpu_backend.label_config import LabelConfig
from srpu_backend.projects import Projects
from srpu_backend.shelves import Uploads
from srpu_backend.studio import Studio

log = logging.getLogger("demo")


@dataclass(frozen=True)
class DemoProject:
    """A connected project, and what is needed to work with it."""

    id: int
    studio: Studio
    projects: Projects
    annotator: ReferenceAnnotator
    is_new: bool
    """True when its images were imported just now."""


def prepare(stack: Stack, folder: DataFolder, title: str) -> DemoProject:
    """Make the project of `folder` or find it again, connect it, and import the images once."""
    studio = Studio(stack.studio.url, stack.studio.account.token)
    kept = stack.state / "project.json"
    known = _known(kept)
    if known is not None:
        _follow_backend(studio, known, stack.backend_url)
    report = _connect(stack, title, label_config(folder.labels), known)
    if known is None:
        log.info("Importing %d images …", len(folder.images))
        imported = import_folder(
            studio,
            report.project,
            folder.source,
            Uploads(studio, report.project),
            allowed_folders=[folder.source],
        )
        for reason in imported.bad:
            log.warning("%s", reason)
        write_atomically(kept, json.dumps({"project": report.project}).encode())
    projects = Projects.of(stack.settings)
    config = LabelConfig.parse(str(studio.project(report.project)["label_config"]))
    annotator = ReferenceAnnotator(studio, report.project, folder, config)
    return DemoProject(report.project, studio, projects, annotator, is_new=known is None)


def _connect(stack: Stack, title: str, xml: str, known: int | None) -> ConnectReport:
    report = connect(
        stack.settings,
        studio_url=stack.studio.url,
        token=stack.studio.account.token,
        backend_url=stack.backend_url,
        project=known,
        create=title,
        label_config=xml,
    )
    for finding in report.findings:
        if finding.kind == "problem":
            log.warning("%s", finding.text)
    return report


def _follow_backend(studio: Studio, project: int, url: str) -> None:
    """The backend may have another port than last time: Label Studio is told, instead of of a second one."""
    for backend in studio.ml_backends(project):
        if str(backend["title"]) == BACKEND_TITLE and str(backend["url"]).rstrip("/") != url:
            old = f"{str(backend['url']).rstrip('/')}/webhook"
            studio.update_ml_backend(int(backend["id"]), project=project, url=url, title=BACKEND_TITLE)
            for webhook in studio.webhooks(project):
                if webhook["url"] == old:
                    studio.delete_webhook(int(webhook["id"]))


def _known(kept: Path) -> int | None:
    with suppress(FileNotFoundError, ValueError, KeyError):
        return int(json.loads(kept.read_text())["project"])
    return None
