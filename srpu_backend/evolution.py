"""The loop: annotations → snapshot → challenger → gate → champion → predictions and their order, a story.

`evolve` is one turn of it and `refresh` a look at what is new. Both consist of steps that are kept as they
finish, so a trainer that is killed resumes at the step it was in. Every step may be done twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from model_zoo.card import ModelCard
from model_zoo.errors import SRPUError, UnknownVersion
from model_zoo.inference.engine_record import EngineChoice
from srpu_backend.annotator import UNTRAINED
from srpu_backend.batch import COLD_START, Order
from srpu_backend.children import TrainingFailed, run_training
from srpu_backend.due import (
    Attempt,
    config_fingerprint,
    last_attempt,
    remember_attempt,
    training_due,
)
from srpu_backend.images import ImageStore
from srpu_backend.jobs import JobCancelled
from srpu_backend.locks import Locked, exclusive
from srpu_backend.pool import predict_pool
from srpu_backend.prediction_files import PredictionFiles
from srpu_backend.projects import Project, Projects
from srpu_backend.ranking import rank_pool
from srpu_backend.reconcile import reconcile
from srpu_backend.settings import Settings
from srpu_backend.snapshot import NothingToLearn, build
from srpu_backend.studio import Studio, StudioError
from srpu_backend.training_settings import snapshot_depth, training_overrides
from srpu_backend.write_back import cold_start, write_back
from training.gate import Verdict, judge
from training.scoring.evaluation import Evaluation

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
_KEPT_RUNS = 5
_SHOWN_PROBLEMS = 20


class WorkerStopping(BaseException):
    """The trainer is shutting down. Not an `Exception`, so that the step counts as not yet done."""


class Steps(Protocol):
    """How steps are called; `jobs.DurableSteps` keeps them."""

    def once(self, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def retried(self, action: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def workflow_id(self) -> str: ...
    def cancelled(self) -> bool: ...


class Asker(Protocol):
    """The part of `jobs.JobClient` with which the loop asks for its next turn."""

    def evolve(self, project_id: int, reason: str, *, forced: bool = False) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What one turn of the loop is about to train."""

    version: str
    work: Path
    manifest: Path
    training_images: int
    holdout_images: int


class Evolution:
    """The loop over all projects of one MODEL_DIR."""

    def __init__(
        self,
        settings: Settings,
        projects: Projects,
        images: ImageStore,
        jobs: Asker,
        steps: Steps,
        stopping: threading.Event,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._projects = projects
        self._images = images
        self._jobs = jobs
        self._steps = steps
        self._stopping = stopping
        self._clock = clock

    def evolve(self, project_id: int, reason: str, forced: bool) -> str:
        """One turn of the loop; returns what came of it, in words.

        A failure leaves the champion serving and says why in the project's state.
        """
        steps, run = self._steps, self._steps.workflow_id()
        try:
            steps.retried(self.pull, project_id)
            plan = steps.once(self.plan, project_id, run, reason, forced)
            if plan is None:
                return "nothing new to learn"
            steps.once(self.train, project_id, plan)
            verdict = steps.once(self.judge, project_id, plan)
            steps.once(self.publish, project_id, plan, verdict)
            if verdict.decision != "promote":
                return self._rest(project_id, f"{plan.version} was not promoted: {verdict.reason}")
            steps.once(self.promote, project_id, plan, verdict)
            steps.once(self.annotate, project_id)
            steps.once(self.rank, project_id)
            steps.retried(self.tell, project_id)
            return self._rest(project_id, f"{plan.version} serves: {verdict.reason}")
        except SRPUError as error:
            self._fail(project_id, run, str(error))
            raise

    def refresh(self, project_id: int) -> str:
        """Look what is new: pull, ask for a training when one is due, predict and tell what is missing."""
        try:
            self._steps.retried(self.pull, project_id)
            self._steps.once(self.ask, project_id)
            self._steps.once(self.annotate, project_id, False)
            self._steps.once(self.rank, project_id, False)
            written = self._steps.retried(self.tell, project_id, False)
        except SRPUError as error:
            self._projects.get(project_id).note_problem("refresh", str(error))
            raise
        return f"{written} predictions written"

    def cancelled(self, project_id: int) -> None:
        """The running turn was cancelled: the champion goes on serving."""
        self._show(self._projects.get(project_id), "cancelled", "Somebody cancelled the run.", run="")

    def crashed(self, project_id: int, run: str, error: Exception) -> None:
        """The running turn ended in an error nobody foresaw."""
        self._fail(
            project_id,
            run,
            f"The run ended in an unforeseen {type(error).__name__}; the trainer's log tells.",
        )

    # -- the steps, in the order of the story ------------------------------------------------------------

    def pull(self, project_id: int, thorough: bool = False) -> None:
        """1 · Bring the mirror up to date."""
        with self._studio(project_id) as studio:
            reconcile(self._projects, project_id, studio, self._clock, thorough)

    def ask(self, project_id: int) -> None:
        """Ask for a turn of the loop when one is due."""
        reason = training_due(self._projects.get(project_id), self._settings)
        if reason is not None:
            self._jobs.evolve(project_id, reason)

    def plan(self, project_id: int, run: str, reason: str, forced: bool) -> Plan | None:
        """2 · Take a snapshot and reserve a version, if there is something to learn; done again, the same."""
        project = self._projects.get(project_id)
        mine = last_attempt(project)
        resumed = mine is not None and mine.run == run
        if not (forced or resumed or training_due(project, self._settings)):
            return None
        self._show(project, "snapshot", reason, run=run)
        attempt = Attempt(
            run=run,
            version=mine.version if mine is not None and resumed else "",
            labels=project.mirror.labels(),
            config=config_fingerprint(project),
        )
        # Before anything can fail: labels that cannot be learnt from are not tried again every minute.
        remember_attempt(project, attempt)
        depth = snapshot_depth(project, self._settings, os.environ)
        snapshot = build(project, self._images, self._settings.holdout_share, self._go_on, depth)
        for problem in snapshot.problems[:_SHOWN_PROBLEMS]:
            project.note_problem("snapshot", problem)
        if snapshot.training_images == 0:
            raise NothingToLearn("All images that can be read are kept for the gate; label one more.")
        suffix = hashlib.sha256(f"{snapshot.hash}{run}".encode()).hexdigest()[:6]
        version = attempt.version or project.registry.next_version(suffix)
        remember_attempt(project, attempt.model_copy(update={"version": version}))
        return Plan(
            version=version,
            work=project.root / "work" / version,
            manifest=snapshot.manifest,
            training_images=snapshot.training_images,
            holdout_images=snapshot.holdout_images,
        )

    def train(self, project_id: int, plan: Plan) -> None:
        """4 · Train the challenger in a child process; one that was interrupted goes on where it was."""
        project = self._projects.get(project_id)
        if (plan.work / "card.json").exists():
            return
        self._show(project, "train", f"{plan.version} learns from {plan.training_images} images", fraction=0)
        arguments = ["train", "--manifest", str(plan.manifest), "--out", str(plan.work)]
        self._child(project, [*arguments, *self._options(project)], plan)

    def judge(self, project_id: int, plan: Plan) -> Verdict:
        """5 · Champion and challenger on the same frozen holdout."""
        project = self._projects.get(project_id)
        self._choose_engine(project, plan)
        self._show(project, "gate", f"{plan.version} is measured on {plan.holdout_images} holdout images")
        verdict = judge(
            self._champions_evaluation(project, plan),
            self._evaluation(project, plan, plan.work, "challenger"),
            min_images=self._settings.min_holdout_images,
            seed=0,
        )
        project.update_state(gate=verdict.model_dump(mode="json"))
        return verdict

    def publish(self, project_id: int, plan: Plan, verdict: Verdict) -> None:
        """6 · Keep the challenger in the registry, whatever the verdict."""
        project = self._projects.get(project_id)
        card = ModelCard.read(plan.work)
        champion = project.registry.champion()
        card = card.model_copy(
            update={
                "version": plan.version,
                "training_images": plan.training_images,
                "holdout_images": plan.holdout_images,
                "parents": card.parents if champion in (None, plan.version) else (champion, *card.parents),
                "metrics": {**card.metrics, "gate": verdict.model_dump(mode="json")},
            }
        )
        project.registry.publish(plan.work, card)
        _prune(plan.work.parent)

    def promote(self, project_id: int, plan: Plan, verdict: Verdict) -> None:
        """6 · Swap the pointer."""
        project = self._projects.get(project_id)
        project.registry.promote(plan.version, verdict.reason)
        project.update_state(last_error="")

    def annotate(self, project_id: int, shown: bool = True) -> None:
        """7 · Let the champion predict and score every unlabelled task it has not seen yet.

        One at a time a project: `refresh` (not `shown`) leaves it to whoever is at it already.
        """
        project = self._projects.get(project_id)
        with suppress(Locked), exclusive(project.root / "rank.lock", wait=self._go_on if shown else None):
            predict_pool(
                project,
                self._images,
                self._clock,
                self._go_on,
                lambda said, done: self._show(project, "annotate", said, fraction=done) if shown else None,
            )

    def rank(self, project_id: int, shown: bool = True) -> None:
        """8 · Choose the tasks to label next; a ranking that fails holds nothing else up."""
        project = self._projects.get(project_id)
        if shown:
            self._show(project, "rank", "The tasks to label next are chosen")
        with suppress(Locked), exclusive(project.root / "rank.lock", wait=self._go_on if shown else None):
            try:
                rank_pool(project, self._images, self._settings, self._clock, self._go_on)
            except SRPUError as error:
                project.note_problem("rank", str(error))

    def tell(self, project_id: int, shown: bool = True) -> int:
        """9 · Write back: predictions, order, model version, sampling, tab; returns how many predictions."""
        project = self._projects.get(project_id)
        with exclusive(project.root / "tell.lock", wait=self._go_on), self._studio(project_id) as studio:
            champion = project.registry.champion()  # now: another may have been promoted while we waited
            order = Order.of(project, champion or COLD_START)
            if champion is None:
                return cold_start(project_id, studio, project.mirror, order, self._go_on)
            if shown:
                self._show(project, "write back", f"Label Studio is told of {champion}")
            return write_back(
                project_id,
                studio,
                project.mirror,
                PredictionFiles(project.root, champion, config_fingerprint(project)),
                order,
                [*project.registry.versions(), UNTRAINED, COLD_START],
                self._clock(),
                self._go_on,
            )

    # -- what the steps are made of ----------------------------------------------------------------------

    def _studio(self, project_id: int) -> Studio:
        connection = self._projects.get(project_id).connection
        if connection is None:
            raise StudioError(
                f"Project {project_id} has no token for Label Studio: set LABEL_STUDIO_URL and "
                "LABEL_STUDIO_API_KEY, or open the project's Model settings once."
            )
        return Studio(connection.url, connection.token.get_secret_value())

    def _go_on(self) -> None:
        """Raise when the trainer is stopping or the job was cancelled."""
        if self._stopping.is_set():
            raise WorkerStopping
        if self._steps.cancelled():
            raise JobCancelled("Somebody cancelled this run.")

    def _options(self, project: Project) -> list[str]:
        """The preset and what changes it, as a child is told."""
        overrides = training_overrides(project, self._settings)
        sets = [f"{name}={json.dumps(value)}" for name, value in overrides.items()]
        return ["--preset", self._settings.preset, *(["--set", *sets] if sets else [])]

    def _child(self, project: Project, arguments: list[str], plan: Plan) -> None:
        def report(progress: Mapping[str, Any]) -> None:
            project.update_state(
                fraction=progress.get("fraction"), message=str(progress.get("message") or plan.version)
            )

        run_training(arguments, plan.work, report, self._go_on)

    def _choose_engine(self, project: Project, plan: Plan) -> None:
        """What will serve the challenger, before it is judged: the gate judges what will be served."""
        if not self._settings.choose_engine or EngineChoice.of(ModelCard.read(plan.work)) is not None:
            return
        self._show(project, "gate", f"{plan.version}: looking what serves it fastest")
        part = "holdout" if plan.holdout_images else "train"
        where = ["--model", str(plan.work), "--manifest", str(plan.manifest), "--part", part]
        try:
            self._child(project, ["choose-engine", *where], plan)
        except TrainingFailed as error:
            project.note_problem("engine", f"{plan.version} is served as models are by default: {error}")

    def _evaluation(self, project: Project, plan: Plan, model: Path, name: str) -> Evaluation:
        out = plan.work / f"{name}-holdout.json"
        if plan.holdout_images == 0:
            classes = tuple(info.name for info in project.label_config.classes)
            return Evaluation(model=name, part="holdout", classes=classes, images=())
        if not out.exists():
            where = ["--manifest", str(plan.manifest), "--part", "holdout", "--out", str(out)]
            self._child(project, ["evaluate", "--model", str(model), *where], plan)
        return Evaluation.model_validate_json(out.read_bytes())

    def _champions_evaluation(self, project: Project, plan: Plan) -> Evaluation | None:
        """None before the first champion, and when the champion cannot be used any more."""
        champion = project.registry.champion()
        if champion is None or champion == plan.version:
            return None
        try:
            return self._evaluation(project, plan, project.registry.folder(champion), champion)
        except (TrainingFailed, UnknownVersion) as error:
            if isinstance(error, TrainingFailed) and not error.bad_input:
                raise
            project.note_problem("gate", f"The champion {champion} cannot be measured: {error}")
            return None

    def _show(
        self,
        project: Project,
        stage: str,
        message: str,
        fraction: float | None = None,
        run: str | None = None,
    ) -> None:
        log.info("project %d: %s: %s", project.id, stage, message)
        changes: dict[str, Any] = {"stage": stage, "message": message, "fraction": fraction}
        project.update_state(**changes, **({} if run is None else {"run": run}))

    def _rest(self, project_id: int, outcome: str) -> str:
        self._show(self._projects.get(project_id), "idle", outcome, run="")
        return outcome

    def _fail(self, project_id: int, run: str, why: str) -> None:
        project = self._projects.get(project_id)
        attempt = last_attempt(project)
        if attempt is not None and attempt.run == run:
            remember_attempt(project, attempt.model_copy(update={"failed": True}))
        champion = project.registry.champion()
        serving = f"{champion} goes on serving." if champion else "There is no model yet."
        self._show(project, "failed", f"{why} {serving}", run="")
        project.update_state(last_error=why)
        project.note_problem("evolve", why)


def _prune(work: Path) -> None:
    """Drop the checkpoints of all runs but the newest few; models that were made are in the registry."""
    runs = sorted((p for p in work.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for run in runs[:-_KEPT_RUNS]:
        shutil.rmtree(run, ignore_errors=True)
