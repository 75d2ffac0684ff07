"""`Studio` against a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests
from pydantic import SecretStr

from examples.demo.label_studio import LabelStudioProcess
from srpu_backend.projects import Connection
from srpu_backend.studio import Studio, StudioError, TokenKeeper

pytestmark = pytest.mark.e2e


def region(label: str = "particle", control: str = "brush") -> dict[str, Any]:
    return {
        "id": f"r-{label}",
        "type": "brushlabels",
        "from_name": control,
        "to_name": "image",
        "original_width": 8,
        "original_height": 4,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": [0, 0, 0, 128, 57, 27, 255], "brushlabels": [label]},
    }


def prediction(task: int, version: str = "v0001-abcdef", control: str = "brush") -> dict[str, Any]:
    return {"task": task, "result": [region(control=control)], "score": 0.25, "model_version": version}


@pytest.fixture
def tasks(studio: Studio, project_id: int) -> list[int]:
    return studio.import_tasks(project_id, [{"data": {"image": f"http://x/{i}.png"}} for i in range(3)])


@pytest.fixture
def annotate(studio: Studio) -> Callable[..., int]:
    def submit(task: int, **fields: Any) -> int:
        made = studio.post(f"/api/tasks/{task}/annotations/", {"result": [region()], **fields})
        return int(made["id"])

    return submit


@pytest.fixture(scope="module")
def login(label_studio: LabelStudioProcess) -> Iterator[requests.Session]:
    """A browser's session."""
    with requests.Session() as session:
        page = f"{label_studio.url}/user/login/"
        session.get(page, timeout=30)
        session.headers["Referer"] = page
        form = {"email": label_studio.account.email, "password": label_studio.account.password}
        session.post(page, data=form | {"csrfmiddlewaretoken": session.cookies["csrftoken"]}, timeout=30)
        session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
        yield session


@pytest.fixture
def personal_token(label_studio: LabelStudioProcess, login: requests.Session) -> Iterator[str]:
    """A personal access token; a user can have one at a time."""
    token = str(login.post(f"{label_studio.url}/api/token/", timeout=30).json()["token"])
    yield token
    revoke(login, label_studio.url, token)


def revoke(login: requests.Session, url: str, token: str) -> None:
    login.post(f"{url}/api/token/blacklist/", json={"refresh": token}, timeout=30)


def row(studio: Studio, project_id: int, task: int) -> dict[str, Any]:
    return next(row for row in studio.task_rows(project_id) if row["id"] == task)


def test_rows_come_in_order_with_data_as_imported_and_without_bodies(
    studio: Studio, project_id: int, tasks: list[int], annotate: Callable[..., int]
) -> None:
    annotate(tasks[1])
    rows = list(studio.task_rows(project_id))
    assert [r["id"] for r in rows] == tasks
    assert [r["data"]["image"] for r in rows] == [f"http://x/{i}.png" for i in range(3)]
    assert [r["is_labeled"] for r in rows] == [False, True, False]
    assert [r["total_annotations"] for r in rows] == [0, 1, 0]
    assert all("annotations" not in r and "predictions" not in r for r in rows)


def test_rows_are_complete_over_several_pages(studio: Studio, project_id: int) -> None:
    ids = studio.import_tasks(project_id, [{"data": {"image": f"{i}.png"}} for i in range(501)])
    assert len(ids) == 501
    assert [row["id"] for row in studio.task_rows(project_id)] == ids


def test_updated_at_changes_with_whatever_happens_to_an_annotation(
    studio: Studio, project_id: int, tasks: list[int], annotate: Callable[..., int]
) -> None:
    task = tasks[0]
    seen = [row(studio, project_id, task)["updated_at"]]
    first = annotate(task)
    seen.append(row(studio, project_id, task)["updated_at"])
    studio._http.json("PATCH", f"/api/annotations/{first}/", "", body={"result": [region("matrix")]})
    seen.append(row(studio, project_id, task)["updated_at"])
    studio._http.json("PATCH", f"/api/annotations/{first}/", "", body={"ground_truth": True})
    seen.append(row(studio, project_id, task)["updated_at"])
    second = annotate(task, was_cancelled=True)
    seen.append(row(studio, project_id, task)["updated_at"])
    studio._http.send("DELETE", f"/api/annotations/{second}/", "")
    seen.append(row(studio, project_id, task)["updated_at"])
    chosen = {"project": str(project_id), "selectedItems": {"all": False, "included": [task]}}
    studio.post(f"/api/dm/actions?id=delete_tasks_annotations&project={project_id}", chosen)
    seen.append(row(studio, project_id, task)["updated_at"])
    assert seen == sorted(set(seen))


def test_imported_and_removed_predictions_are_no_change(
    studio: Studio, project_id: int, tasks: list[int]
) -> None:
    before = [r["updated_at"] for r in studio.task_rows(project_id)]
    studio.import_predictions(project_id, [prediction(task) for task in tasks])
    studio.delete_predictions(project_id, "v0001-abcdef")
    assert [r["updated_at"] for r in studio.task_rows(project_id)] == before


def test_only_rows_changed_since_a_moment_when_asked_so(
    studio: Studio, project_id: int, tasks: list[int], annotate: Callable[..., int]
) -> None:
    newest = max(r["updated_at"] for r in studio.task_rows(project_id))
    assert list(studio.task_rows(project_id, changed_since=newest)) == []
    annotate(tasks[2])
    assert [r["id"] for r in studio.task_rows(project_id, changed_since=newest)] == [tasks[2]]


def test_export_brings_annotations_but_neither_skipped_ones_nor_lost_tasks(
    studio: Studio, project_id: int, tasks: list[int], annotate: Callable[..., int]
) -> None:
    kept = annotate(tasks[0], lead_time=3.5)
    annotate(tasks[1], was_cancelled=True)
    exported = studio.export(project_id, [*tasks, 10**9])
    assert [task["id"] for task in exported] == tasks
    assert [len(task["annotations"]) for task in exported] == [1, 0, 0]
    annotation = exported[0]["annotations"][0]
    assert annotation["id"] == kept
    assert annotation["result"] == [region()]


def test_nothing_we_read_leaves_a_file_on_label_studios_disk(
    label_studio: LabelStudioProcess, studio: Studio, project_id: int, tasks: list[int]
) -> None:
    before = set((label_studio.data_dir / "export").iterdir())
    studio.export(project_id, tasks)
    list(studio.task_rows(project_id))
    assert set((label_studio.data_dir / "export").iterdir()) == before


def test_predictions_are_stored_counted_found_and_deleted(
    studio: Studio, project_id: int, tasks: list[int]
) -> None:
    assert studio.import_predictions(project_id, [prediction(t) for t in tasks]) == 3
    assert studio.import_predictions(project_id, [prediction(tasks[1], "v0002-abcdef")]) == 1
    assert studio.prediction_versions(project_id) == {"v0001-abcdef": 3, "v0002-abcdef": 1}
    assert studio.predicted_tasks(project_id, "v0002-abcdef") == {tasks[1]}
    assert studio.predicted_tasks(project_id, "v0003-abcdef") == set()
    studio.delete_predictions(project_id, "v0001-abcdef")
    assert studio.prediction_versions(project_id) == {"v0002-abcdef": 1}


def test_predictions_for_deleted_tasks_are_left_out(
    studio: Studio, project_id: int, tasks: list[int]
) -> None:
    studio._http.send("DELETE", f"/api/tasks/{tasks[1]}/", "")
    assert studio.import_predictions(project_id, [prediction(t) for t in tasks]) == 2
    assert studio.predicted_tasks(project_id, "v0001-abcdef") == {tasks[0], tasks[2]}


def test_dropped_predictions_are_an_error_that_says_how_many(
    studio: Studio, project_id: int, tasks: list[int]
) -> None:
    sent = [prediction(tasks[0]), prediction(tasks[1], control="nonsense")]
    with pytest.raises(StudioError, match="dropped 1 of 2 predictions"):
        studio.import_predictions(project_id, sent)


def test_model_version_sampling_and_a_tab_can_be_set(
    studio: Studio, project_id: int, tasks: list[int]
) -> None:
    studio.import_predictions(project_id, [prediction(t) for t in tasks])
    studio.update_project(project_id, model_version="v0001-abcdef", sampling="Uncertainty sampling")
    told = studio.project(project_id)
    assert (told["model_version"], told["sampling"]) == ("v0001-abcdef", "Uncertainty sampling")
    studio.create_view(project_id, "by score", ["tasks:predictions_score"])
    (view,) = studio.views(project_id)
    assert view["data"]["title"] == "by score"
    assert view["data"]["ordering"] == ["tasks:predictions_score"]


def test_uploaded_files_become_tasks_with_data_of_ours(
    studio: Studio, project_id: int, tmp_path: Path
) -> None:
    files = {}
    for name in ("4.2V-001.png", "4.2V-002.png"):
        path = tmp_path / name
        cv2.imwrite(str(path), np.full((4, 8), len(files), np.uint8))
        files[name] = path
    uploads = studio.upload(project_id, files)
    assert [u.reference.rsplit("-", 1)[1] for u in uploads] == ["001.png", "002.png"]
    ids = studio.import_tasks(
        project_id,
        [{"data": {"image": u.reference, "frame": i}, "file_upload_id": u.id} for i, u in enumerate(uploads)],
    )
    rows = list(studio.task_rows(project_id))
    assert [(r["id"], r["data"]["frame"]) for r in rows] == list(zip(ids, (0, 1), strict=True))
    for r, path in zip(rows, files.values(), strict=True):
        assert studio.get(r["data"]["image"]).content == path.read_bytes()


def test_a_personal_access_token_is_exchanged(
    label_studio: LabelStudioProcess, personal_token: str, project_id: int
) -> None:
    with Studio(label_studio.url, personal_token) as studio:
        assert studio.user()["email"] == label_studio.account.email
        assert studio.project(project_id)["id"] == project_id


def test_images_are_authorised_by_a_personal_access_token_too(
    label_studio: LabelStudioProcess, personal_token: str
) -> None:
    keeper = TokenKeeper()
    connection = Connection(label_studio.url, SecretStr(personal_token))
    header = keeper(connection)
    assert header.startswith("Bearer ")
    assert keeper(connection) == header
    assert keeper(connection, renew=True) != header


def test_a_revoked_personal_access_token_is_told(
    label_studio: LabelStudioProcess, login: requests.Session, personal_token: str
) -> None:
    revoke(login, label_studio.url, personal_token)
    with (
        Studio(label_studio.url, personal_token) as studio,
        pytest.raises(StudioError, match="does not accept this personal access token") as told,
    ):
        studio.user()
    assert told.value.status == 401


def test_a_legacy_token_is_told_to_be_switched_off(
    label_studio: LabelStudioProcess, studio: Studio, login: requests.Session
) -> None:
    switches = f"{label_studio.url}/api/jwt/settings"
    login.post(switches, json={"legacy_api_tokens_enabled": False}, timeout=30)
    try:
        with pytest.raises(StudioError, match="legacy tokens switched off: use a personal access") as told:
            studio.user()
    finally:
        login.post(switches, json={"legacy_api_tokens_enabled": True}, timeout=30)
    assert told.value.status == 401


def test_an_unknown_token_a_lost_project_and_a_bad_version_are_told(
    label_studio: LabelStudioProcess, studio: Studio, project_id: int
) -> None:
    with Studio(label_studio.url, "0" * 40) as stranger, pytest.raises(StudioError, match="token") as told:
        stranger.user()
    assert told.value.status == 401
    with pytest.raises(StudioError, match="has no project 999999: it was deleted") as told:
        studio.project(999999)
    assert told.value.status == 404
    with pytest.raises(StudioError, match="has no project 999999"):
        list(studio.task_rows(999999))
    with pytest.raises(StudioError, match=r"does not accept project .*Model version doesn't exist") as told:
        studio.update_project(project_id, model_version="v9999-000000")
    assert told.value.status == 400
