"""`make demo ONCE=1`: play the annotator once round the loop, and say in numbers what happened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from examples.demo.annotator import ReferenceAnnotator
from examples.demo.processes import wait_until
from model_zoo.card import ModelCard
from model_zoo.errors import SRPUError
from srpu_backend.projects import Project, Projects
from srpu_backend.studio import Studio
from srpu_backend.write_back import UNCERTAINTY_SAMPLING

log = logging.getLogger(__name__)
FEWEST_LEFT = 2
"""Unlabelled tasks at the end, so that there is something to rank."""


class LoopFailed(SRPUError):
    """A part of the loop did not happen."""


@dataclass(frozen=True)
class Portions:
    """How many tasks are labelled before the first model and after it."""

    first: int
    more: int

    @classmethod
    def of(cls, tasks: int) -> Portions:
        """Three, seven more and four left of fourteen tasks; never more than six and fourteen.

        Few at first: what twice as many labels add to a model can be less than chance adds, and then the
        gate rightly refuses.
        """
        if tasks < 3 + FEWEST_LEFT:
            raise LoopFailed(
                f"One round needs at least {3 + FEWEST_LEFT} images with masks; there are {tasks}."
            )
        labelled = tasks - max(FEWEST_LEFT, round(0.28 * tasks))
        first = min(6, max(2, round(0.3 * labelled)))
        return cls(first, min(14, labelled - first))


@dataclass(frozen=True)
class Summary:
    """What the last line of output says."""

    tasks: int
    annotated: int
    model_version_before: str
    model_version_after: str
    holdout_miou_before: float | None
    """Of the first model, on the final holdout; None when there is no holdout."""
    holdout_miou_after: float | None
    """Of the last model, on the same images."""
    next_tasks: list[int]
    """Unlabelled tasks in the order in which they will be served."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Round:
    """One round of the loop, seen from outside.

    `deadline` is how many seconds a training may take until Label Studio serves by its model; `tend` is
    called while waiting.
    """

    projects: Projects
    project_id: int
    studio: Studio
    annotator: ReferenceAnnotator
    deadline: float
    tend: Callable[[], None]

    def play(self, started: float) -> Summary:
        """Label, wait for a model, label more, wait for a better one, and check what is served next.

        Raises `LoopFailed` naming the part that did not happen.
        """
        tasks = sorted(int(row["id"]) for row in self.studio.task_rows(self.project_id))
        portions = Portions.of(len(tasks))
        done = self._label(portions.first)
        before = self._promoted(len(done))
        if before is None:
            raise LoopFailed("The first model was refused, although there was nothing to compare it with.")
        done += self._label(portions.more)
        after = self._promoted(len(done))
        while after is None and len(done) < len(tasks) - FEWEST_LEFT:
            log.info("The challenger was refused; labelling one more.")
            done += self._label(1)
            after = self._promoted(len(done))
        if after is None:
            raise LoopFailed("No challenger was promoted over the first model, with all labels there were.")
        gate = after.metrics["gate"]
        return Summary(
            tasks=len(tasks),
            annotated=len(done),
            model_version_before=before.version,
            model_version_after=after.version,
            holdout_miou_before=gate["champion_miou"],
            holdout_miou_after=gate["challenger_miou"],
            next_tasks=self._served_order(set(tasks) - set(done), after.version),
            seconds=round(time.monotonic() - started, 1),
        )

    @property
    def _project(self) -> Project:
        return self.projects.get(self.project_id)

    def _label(self, count: int) -> list[int]:
        done = self.annotator.annotate_next(count)
        if len(done) < count:
            raise LoopFailed(f"Label Studio served {len(done)} of {count} tasks to label.")
        log.info("%d tasks labelled: %s", count, ", ".join(map(str, done)))
        return done

    def _promoted(self, labelled: int) -> ModelCard | None:
        """The card of the champion that knows `labelled` tasks, once Label Studio serves by it.

        None when the gate refused the challenger.
        """
        if not self._wait(lambda: self._challenger(labelled) is not None):
            state = self._project.state()
            raise LoopFailed(
                f"No model was trained on {labelled} tasks within {self.deadline:.0f} s "
                f"(the trainer says: {state.stage}, {state.message})."
            )
        card = self._challenger(labelled)
        if card is None or card.metrics["gate"]["decision"] != "promote":
            return None
        if not self._wait(lambda: self._serves(card.version)):
            raise LoopFailed(
                f"{card.version} was promoted, but within {self.deadline:.0f} s Label Studio was not told: "
                f"its model version is {self.studio.project(self.project_id).get('model_version')!r}."
            )
        log.info("%s serves: %s", card.version, card.metrics["gate"]["reason"])
        return card

    def _wait(self, reached: Callable[[], bool]) -> bool:
        def look() -> bool:
            self.tend()
            state = self._project.state()
            if state.stage == "failed":
                raise LoopFailed(f"The loop failed: {state.message}")
            return reached()

        return wait_until(look, self.deadline)

    def _challenger(self, labelled: int) -> ModelCard | None:
        """The newest version, if it was made from as many tasks."""
        cards = self._project.registry.cards()
        newest = max(cards, key=lambda card: card.version, default=None)
        if newest is None or newest.training_images + newest.holdout_images < labelled:
            return None
        return newest

    def _serves(self, version: str) -> bool:
        """Whether Label Studio has all that a promotion tells it."""
        told = self.studio.project(self.project_id)
        unlabelled = sum(not row["is_labeled"] for row in self.studio.task_rows(self.project_id))
        return (
            self._project.registry.champion() == version
            and told.get("model_version") == version
            and told.get("sampling") == UNCERTAINTY_SAMPLING
            and self.studio.prediction_versions(self.project_id).get(version, 0) >= unlabelled
        )

    def _served_order(self, unlabelled: set[int], version: str) -> list[int]:
        """The unlabelled tasks, lowest score first; Label Studio's next task must be the first of them."""
        scores = self._scores(version)
        missing = unlabelled - scores.keys()
        if missing:
            raise LoopFailed(f"Tasks {sorted(missing)} have no prediction of {version} in Label Studio.")
        order = sorted(unlabelled, key=lambda task: (scores[task], task))
        served = self.annotator.next_task()
        if served is None or scores.get(int(served["id"])) != scores[order[0]]:
            raise LoopFailed(
                f"Label Studio serves task {served and served['id']} next, but task {order[0]} has the "
                f"lowest score of {version}."
            )
        return order

    def _scores(self, version: str) -> dict[int, float]:
        """Task id → score of its prediction of `version`, as Label Studio holds them."""
        found = self.studio.get(f"/api/predictions/?project={self.project_id}").json()
        return {int(p["task"]): float(p["score"]) for p in found if p["model_version"] == version}
