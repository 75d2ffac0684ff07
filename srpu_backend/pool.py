"""The champion looks at every unlabelled task: its regions, and the score that orders the tasks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from model_zoo.inference import BadImageStack
from model_zoo.normalisation import BadIntensities
from srpu_backend.annotator import Annotator, BadTask
from srpu_backend.due import config_fingerprint
from srpu_backend.images import ImageStore, ImageUnavailable
from srpu_backend.mirror import MirroredTask
from srpu_backend.prediction_files import Prediction, PredictionFiles
from srpu_backend.projects import Project
from training.data.micrograph import BadImage

_RETRY_TASK_AFTER = timedelta(minutes=10)
_GIVE_UP_AFTER = 20
"""Tasks in a row whose image cannot be had: then it is not the tasks."""
_KEPT_VERSIONS = 5
_SHOW_EVERY = 10


def predict_pool(
    project: Project,
    images: ImageStore,
    clock: Callable[[], datetime],
    go_on: Callable[[], None],
    show: Callable[[str, float], None],
) -> None:
    """Predict and score every unlabelled task the champion has not seen yet; kept in `PredictionFiles`.

    A task whose image cannot be had is named in the project's problems and put off; the others go on.

    Args:
        project: its mirror tells the tasks.
        images: where originals come from.
        clock: what time it is.
        go_on: called before each task; may raise to give up.
        show: told now and then what is done, in words and as a fraction.
    """
    champion = project.registry.champion()
    if champion is None:
        return
    annotator = Annotator(project, images)
    files = PredictionFiles(project.root, champion, config_fingerprint(project))
    files.forget_others(project.registry.versions()[-_KEPT_VERSIONS:])
    total = project.mirror.count_unpredicted(champion, clock())
    in_vain = 0
    for done, task in enumerate(project.mirror.unpredicted(champion, clock())):
        go_on()
        if annotator.version() != champion:
            return  # somebody promoted another one: its own refresh will follow
        if done % _SHOW_EVERY == 0:
            show(f"{champion} looks at {total} images", done / max(total, 1))
        in_vain = 0 if _predict(project, annotator, files, task, clock) else in_vain + 1
        if in_vain >= _GIVE_UP_AFTER:
            return


def _predict(
    project: Project,
    annotator: Annotator,
    files: PredictionFiles,
    task: MirroredTask,
    clock: Callable[[], datetime],
) -> bool:
    """Predict one task unless that is done; False when its image cannot be had."""
    if files.get(task.id, task.data) is not None:
        return True
    try:
        said = annotator.annotate({"id": task.id, "data": task.data})
    except (ImageUnavailable, BadImage, BadTask, BadIntensities, BadImageStack) as error:
        project.note_problem("annotate", f"Task {task.id}: {error}")
        project.mirror.put_off(task.id, files.version, clock() + _RETRY_TASK_AFTER)
        return False
    if said.dropped:
        project.note_problem(
            "annotate",
            f"Task {task.id}: the {said.dropped} smallest areas are not among its polygons; raise "
            "model_max_regions in the label config, or let a brush or bitmask tag answer.",
        )
    if said.model_version == files.version:
        prediction = Prediction(task.id, said.result, said.score, said.model_version)
        files.put(prediction, task.data, said.doubts)
    return True
