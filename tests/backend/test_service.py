"""What Label Studio's requests mean: setup, predict, webhook, versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from stand_ins import (
    CONFIG,
    SETUP,
    FolderImages,
    RecordingJobs,
    counting_clock,
    load_threshold,
    publish,
)

from srpu_backend.annotator import Champions
from srpu_backend.label_config import BadLabelConfig
from srpu_backend.projects import BadProjectReference, Project, UnknownProject
from srpu_backend.service import BadRequest, QueueUnavailable, Service
from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast

IMAGE = np.zeros((24, 32), np.uint8)
IMAGE[4:12, 8:20] = 200
PROJECT = {"id": 1, "title": "Ni alloy", "label_config": CONFIG, "task_number": 6}
NO_IMAGE = (
    "<View><Text name='t' value='$text'/><Labels name='l' toName='t'><Label value='a'/></Labels></View>"
)


@pytest.fixture
def jobs() -> RecordingJobs:
    return RecordingJobs()


@pytest.fixture
def service(tmp_path: Path, jobs: RecordingJobs) -> Service:
    settings = Settings(model_dir=tmp_path, label_studio_url="", label_studio_api_key=SecretStr(""))
    images = FolderImages(tmp_path, {"/data/a.png": IMAGE, "/data/13.png": np.full((8, 8), 13, np.uint8)})
    return Service(settings, jobs, images, champions=Champions(2, load_threshold, lambda work: work()))


@pytest.fixture
def project(service: Service) -> Project:
    service.setup(SETUP)
    return service.projects.get(1)


def task(id: int, image: str = "/data/a.png", **data: Any) -> dict[str, Any]:
    return {"id": id, "data": {"image": image, **data}, "annotations": [], "predictions": []}


def predict(service: Service, *tasks: Any, context: Any = None, project: Any = "1.17") -> Any:
    return service.predict(
        {"tasks": list(tasks), "project": project, "label_config": CONFIG, "params": {"context": context}}
    )


class TestSetup:
    def test_remembers_the_project_and_says_untrained(self, service: Service) -> None:
        assert service.setup({**SETUP, "extra_params": {"a": 1}}) == {"model_version": "untrained"}
        project = service.projects.get(1)
        assert project.connection is not None
        assert project.connection.url == SETUP["hostname"]
        assert project.connection.token.get_secret_value() == SETUP["access_token"]
        assert (project.label_config_xml, project.parameters) == (CONFIG, {"a": 1})

    def test_says_the_champion_without_loading_it(self, service: Service, project: Project) -> None:
        version = publish(project)
        assert service.setup(SETUP) == {"model_version": version}
        assert service._champions._champions == {}

    def test_the_configured_label_studio_is_never_replaced_by_the_callers(self, tmp_path: Path) -> None:
        settings = Settings(model_dir=tmp_path, label_studio_url="http://configured")
        service = Service(settings, RecordingJobs(), FolderImages(tmp_path))
        service.setup({**SETUP, "hostname": "http://attacker"})
        connection = service.projects.get(1).connection
        assert connection is not None
        assert connection.url == "http://configured"
        assert "attacker" not in (tmp_path / "projects/1/project.json").read_text()

    def test_a_config_that_cannot_be_served_is_refused_and_remembered_as_a_problem(
        self, service: Service
    ) -> None:
        with pytest.raises(BadLabelConfig):
            service.setup({**SETUP, "schema": NO_IMAGE})
        assert [p.where for p in service.projects.get(1).problems()] == ["label config"]

    def test_a_project_that_is_none_is_refused(self, service: Service) -> None:
        with pytest.raises(BadProjectReference):
            service.setup({**SETUP, "project": "../../etc"})

    def test_fields_of_the_wrong_type_are_refused(self, service: Service) -> None:
        with pytest.raises(BadRequest, match="`schema` must be text, not list"):
            service.setup({**SETUP, "schema": []})


class TestPredict:
    def test_before_the_first_model_every_answer_is_empty_and_valid(
        self, service: Service, project: Project
    ) -> None:
        empty = {"result": [], "score": 0.0, "model_version": "untrained"}
        assert predict(service, task(1), task(2, "/missing.png"))["results"] == [empty, empty]

    def test_regions_carry_class_scores_and_the_version_of_setup(
        self, service: Service, project: Project
    ) -> None:
        version = publish(project)
        (answer,) = predict(service, task(1))["results"]
        assert answer["model_version"] == version == service.setup(SETUP)["model_version"]
        assert 0 < answer["score"] < 1
        (region,) = answer["result"]
        assert region["value"]["brushlabels"] == ["grain"]
        assert (region["original_width"], region["original_height"]) == (32, 24)
        assert region["score"] == pytest.approx(0.9)

    def test_each_task_fails_alone(self, service: Service, project: Project) -> None:
        publish(project)
        tasks = (task(1), task(2, "/missing.png"), {"id": 3}, {"id": 4, "data": []}, task(5, "/data/13.png"))
        results = predict(service, *tasks, task(6))["results"]
        assert [("result" in r, "error" in r) for r in results] == [
            (True, False), *[(False, True)] * 4, (True, False)
        ]  # fmt: skip
        assert "no such image" in results[1]["error"]
        assert "data.image" in results[2]["error"]
        assert "defect" not in results[4]["error"]

    def test_failures_are_told_in_the_status_once_a_request(self, service: Service, project: Project) -> None:
        publish(project)
        predict(service, task(1), task(2, "/missing.png"), task(3, "/missing.png"))
        (problem,) = project.problems()
        assert problem.where == "predict"
        assert "Task 2" in problem.message
        assert "2 of 3 tasks" in problem.message

    def test_what_does_not_fit_before_the_deadline_is_deferred_to_the_trainer(
        self, service: Service, project: Project, jobs: RecordingJobs
    ) -> None:
        publish(project)
        service._answers._clock = counting_clock(service.settings.predict_deadline * 0.6)
        results = predict(service, *(task(id) for id in range(1, 6)))["results"]
        assert ["result" in answer for answer in results] == [True, True, False, False, False]
        assert results[-1]["error"].startswith("Deferred")
        assert "Deferred" in project.problems()[-1].message
        assert jobs.asked == [("tasks", 1)]

    def test_the_first_task_is_answered_however_slow(self, service: Service, project: Project) -> None:
        publish(project)
        service._answers._clock = counting_clock(service.settings.predict_deadline * 5)
        assert "result" in predict(service, task(1))["results"][0]

    def test_smart_tools_get_an_empty_valid_answer(self, service: Service, project: Project) -> None:
        publish(project)
        (answer,) = predict(service, task(1), context={"result": [{"type": "keypointlabels"}]})["results"]
        assert answer["result"] == []

    def test_the_label_config_of_the_request_counts(self, service: Service, project: Project) -> None:
        publish(project)
        renamed = CONFIG.replace('"grain"', '"phase"')
        answer = service.predict({"tasks": [task(1)], "project": "1.1", "label_config": renamed})
        assert answer["results"][0]["result"] == []
        assert service.projects.get(1).label_config_xml == renamed

    def test_a_promotion_is_served_at_once(self, service: Service, project: Project) -> None:
        publish(project, 1)
        predict(service, task(1))
        second = publish(project, 2)
        assert predict(service, task(1))["results"][0]["model_version"] == second

    def test_many_projects_each_have_their_own_model(self, service: Service, project: Project) -> None:
        service.setup({**SETUP, "project": "2.5"})
        version = publish(service.projects.get(2))
        assert predict(service, task(1))["results"][0]["model_version"] == "untrained"
        assert predict(service, task(1), project="2.5")["results"][0]["model_version"] == version

    def test_an_unknown_project_is_told(self, service: Service) -> None:
        with pytest.raises(UnknownProject, match="Project 9 is not connected"):
            predict(service, task(1), project="9.1")

    @pytest.mark.parametrize("tasks", [None, {}, "x", [1], [None]])
    def test_tasks_that_are_none_are_refused(self, service: Service, project: Project, tasks: Any) -> None:
        with pytest.raises(BadRequest, match="`tasks` must be a list"):
            service.predict({"tasks": tasks, "project": "1.1"})

    def test_no_tasks_no_results(self, service: Service, project: Project) -> None:
        publish(project)
        assert predict(service)["results"] == []


class TestWebhook:
    @pytest.mark.parametrize(
        ("payload", "asked"),
        [
            ({"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "task": {"id": 1}}, "annotations"),
            ({"action": "ANNOTATION_UPDATED", "annotation": {"id": 1}, "task": {"id": 1}}, "annotations"),
            ({"action": "ANNOTATIONS_CREATED", "annotation": [{"id": 1}], "task": [{}]}, "annotations"),
            ({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}]}, "annotations"),
            ({"action": "TASKS_CREATED", "tasks": [{"id": 8, "data": {}}]}, "tasks"),
            ({"action": "TASKS_DELETED", "tasks": [{"id": 6}]}, "tasks"),
            ({"action": "START_TRAINING"}, "train"),
        ],
    )
    def test_events_become_jobs(
        self, service: Service, project: Project, jobs: RecordingJobs, payload: dict[str, Any], asked: str
    ) -> None:
        assert service.webhook({**payload, "project": PROJECT}) == {"status": "queued"}
        assert jobs.asked == [(asked, 1)]

    @pytest.mark.parametrize("action", ["LABEL_LINK_CREATED", "PROJECT_DELETED", "", None, 3, []])
    def test_other_events_are_ignored(
        self, service: Service, project: Project, jobs: RecordingJobs, action: Any
    ) -> None:
        assert service.webhook({"action": action, "project": PROJECT})["status"] == "ignored"
        assert jobs.asked == []

    def test_a_new_label_config_is_remembered_and_looked_at(
        self, service: Service, project: Project, jobs: RecordingJobs
    ) -> None:
        changed = CONFIG.replace('"grain"', '"phase"')
        service.webhook({"action": "PROJECT_UPDATED", "project": {**PROJECT, "label_config": changed}})
        assert service.projects.get(1).label_config_xml == changed
        assert service.projects.get(1).title == "Ni alloy"
        assert jobs.asked == [("annotations", 1)]

    def test_an_update_of_anything_else_asks_for_nothing(
        self, service: Service, project: Project, jobs: RecordingJobs
    ) -> None:
        service.webhook({"action": "PROJECT_UPDATED", "project": PROJECT})
        assert service.projects.get(1).title == "Ni alloy"
        assert jobs.asked == []

    def test_a_new_label_config_that_cannot_be_served_becomes_a_problem(
        self, service: Service, project: Project, jobs: RecordingJobs
    ) -> None:
        answer = service.webhook(
            {"action": "PROJECT_UPDATED", "project": {**PROJECT, "label_config": NO_IMAGE}}
        )
        assert answer["problem"]
        assert project.problems()[-1].where == "label config"
        assert jobs.asked == []

    def test_a_broken_queue_does_not_hold_up_the_annotator(
        self, service: Service, project: Project, jobs: RecordingJobs
    ) -> None:
        jobs.broken = True
        service.webhook({"action": "ANNOTATION_CREATED", "project": PROJECT})
        assert project.problems()[-1].where == "queue"

    def test_a_training_that_cannot_be_queued_is_told_to_whoever_asked(
        self, service: Service, project: Project, jobs: RecordingJobs
    ) -> None:
        jobs.broken = True
        with pytest.raises(QueueUnavailable, match="could not be queued"):
            service.webhook({"action": "START_TRAINING", "project": PROJECT})

    @pytest.mark.parametrize("named", [None, {}, {"id": None}, {"id": "x"}, []])
    def test_an_event_without_project_is_refused(self, service: Service, named: Any) -> None:
        with pytest.raises(BadProjectReference):
            service.webhook({"action": "ANNOTATION_CREATED", "project": named})


def test_versions_of_one_project_or_of_all_newest_first(service: Service, project: Project) -> None:
    first, second = publish(project, 1), publish(project, 2)
    service.setup({**SETUP, "project": "2.5"})
    assert service.versions("1.17")["versions"] == [second, first]
    assert service.versions()["versions"] == [second, first]
    assert service.versions("2")["versions"] == []
