"""Somebody who labels: takes Label Studio's next task and submits the reference mask of its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import requests

from examples.demo.data import DataFolder
from model_zoo.errors import SRPUError
from srpu_backend.label_config import LabelConfig
from srpu_backend.regions import remap, results_from_mask
from srpu_backend.studio import Studio, StudioError
from training.data.masks import read_mask

LEAD_TIME = 60.0
"""Seconds that a person might have taken."""


class NoReference(SRPUError):
    """A task whose image has no reference mask."""


@dataclass(frozen=True)
class ReferenceAnnotator:
    """Labels the tasks of one project from the masks of a folder, through Label Studio's API."""

    studio: Studio
    project: int
    folder: DataFolder
    config: LabelConfig

    def next_task(self) -> dict[str, Any] | None:
        """What Label Studio's label stream serves next; None when every task is done."""
        try:
            return dict(self.studio.get(f"/api/projects/{self.project}/next").json())
        except StudioError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def annotate_next(self, count: int) -> list[int]:
        """Label the next `count` tasks, fewer when there are no more; returns their ids."""
        done: list[int] = []
        while len(done) < count and (task := self.next_task()) is not None:
            self.annotate(task)
            done.append(int(task["id"]))
        return done

    def annotate(self, task: Mapping[str, Any]) -> None:
        """Submit the reference mask of `task`'s image; raises `NoReference` or `StudioError`."""
        stem = PurePosixPath(task["data"]["name"]).stem
        path = self.folder.mask_of(stem)
        if path is None:
            raise NoReference(f"Task {task['id']} shows {stem}, of which {self.folder.root} has no mask.")
        class_map = remap(read_mask(path), self.folder.classes, self.config)
        result = results_from_mask(class_map, self.config)
        self.studio.post(f"/api/tasks/{task['id']}/annotations/", {"result": result, "lead_time": LEAD_TIME})
