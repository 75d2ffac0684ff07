"""The API of Label Studio, as far as we use it.

`GET /api/tasks/{id}` is never called: for a task without predictions it makes Label Studio ask us to predict,
and from within a prediction that recurses. Nor is `…/export`: Label Studio keeps a copy of every export on
its disk for good, which at one a minute fills it.
"""

from __future__ import annotations

import json
import logging
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests

from srpu_backend.studio.errors import StudioError
from srpu_backend.studio.session import StudioSession

log = logging.getLogger(__name__)

Json = dict[str, Any]

_ROWS = 200
"""Tasks a page: Label Studio reads their predictions too, though it does not send them (1 s a page)."""
_REQUEST_ITEMS = 500
_REQUEST_BYTES = 8 * 2**20
"""Label Studio writes about 60 masks of 1024 × 768 px a second, and proxies bound the size of requests."""
_WRITE_TIMEOUT = 300.0
"""Label Studio goes on writing when we hang up, so we rather wait."""
_TASK_IS_GONE = 'invalid "task" field'


@dataclass(frozen=True)
class UploadedFile:
    """A file that Label Studio keeps, not yet part of a task."""

    id: int
    reference: str
    """What task data calls it: `/data/upload/3/1f2e3d4c-name.png`."""


class Studio:
    """One Label Studio as one user sees it. Every method raises `StudioError`.

    Args:
        url: where it is, such as `http://127.0.0.1:8080`.
        token: a legacy token or a personal access token.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, url: str, token: str, timeout: float = 30.0) -> None:
        self._http = StudioSession(url, token, timeout)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self._http.url

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- who, what --------------------------------------------------------------------------------------

    def user(self) -> Json:
        """Whose token this is."""
        return self._dict("GET", "/api/current-user/whoami", "user of this token")

    def version(self) -> str:
        """Label Studio's own version, such as `1.23.2`."""
        return str(self._dict("GET", "/api/version", "version").get("release", ""))

    def project(self, id: int) -> Json:
        """Title, label config, model version, sampling, counts, …"""
        return self._dict("GET", f"/api/projects/{id}/", f"project {id}")

    def projects_titled(self, title: str) -> list[int]:
        """Ids of the projects with exactly this title, oldest first."""
        found = self._dict(
            "GET", "/api/projects", "projects", params={"include": "id,title", "page_size": 10_000}
        )
        return sorted(int(p["id"]) for p in found.get("results", []) if p["title"] == title)

    def create_project(self, title: str, label_config: str, **fields: Any) -> Json:
        """Make a project."""
        body = {"title": title, "label_config": label_config, **fields}
        return self._dict("POST", "/api/projects", f"project {title!r}", body=body)

    def update_project(self, id: int, **fields: Any) -> Json:
        """Change some fields of a project.

        `model_version` must be that of a prediction which exists, or a backend's title.
        """
        return self._dict("PATCH", f"/api/projects/{id}/", f"project {id}", body=fields)

    def delete_project(self, id: int) -> None:
        """Delete a project with its tasks."""
        self._http.send("DELETE", f"/api/projects/{id}/", f"project {id}", timeout=_WRITE_TIMEOUT)

    # -- tasks and annotations --------------------------------------------------------------------------

    def task_rows(self, id: int, changed_since: str = "") -> Iterator[Json]:
        """Every task without its annotations and predictions, by ascending id; triggers no prediction.

        A row has `id`, `data`, `updated_at`, `is_labeled`, `total_annotations`, `cancelled_annotations`,
        `total_predictions`. `updated_at` changes with the task's data and whenever an annotation of it is
        made, changed, deleted or skipped, one by one or in bulk (measured on 1.23.2); it does not with
        drafts, nor with predictions that are imported or deleted in bulk.

        Args:
            id: of the project.
            changed_since: an `updated_at` of a row; only later ones come, in a tenth of the time.
        """
        later = [_filter("updated_at", "greater", "Datetime", changed_since)] if changed_since else []
        return self._rows(id, later)

    def predicted_tasks(self, id: int, version: str) -> set[int]:
        """Ids of the tasks that have a prediction of `version`."""
        # a list: Label Studio would take a plain string letter by letter
        holds = _filter("predictions_model_versions", "contains", "List", [version])
        return {int(row["id"]) for row in self._rows(id, [holds])}

    def export(self, id: int, task_ids: Iterable[int]) -> list[Json]:
        """`{"id", "annotations"}` of each task, oldest first; skipped ones are left out, so are lost tasks.

        One request a task: 16 ms with two masks. The bulk endpoints either bring every prediction along or
        leave a copy on Label Studio's disk.
        """
        found = []
        for task in task_ids:
            try:
                annotations = self._list("GET", f"/api/tasks/{task}/annotations/", f"task {task}")
            except StudioError as error:
                if error.status != requests.codes.not_found:
                    raise
                log.info("project %d: task %d is gone", id, task)
            else:
                found.append({"id": task, "annotations": annotations})
        return found

    def import_tasks(self, id: int, tasks: Sequence[Json]) -> list[int]:
        """Make tasks (`{"data": {…}, "file_upload_id": …}`); returns their ids, in order."""
        ids: list[int] = []
        for chunk in _chunks(tasks):
            made = self._dict(
                "POST",
                f"/api/projects/{id}/import",
                f"tasks for project {id}",
                params={"return_task_ids": "true"},
                body=chunk,
                timeout=_WRITE_TIMEOUT,
            )
            ids += made.get("task_ids") or []
        return ids

    def upload(self, id: int, files: Mapping[str, Path]) -> list[UploadedFile]:
        """Hand over files (name → path) without making tasks of them; in the given order.

        Label Studio takes the extensions of images that browsers show, 100 files and 250 MB at once.
        """
        with ExitStack() as opened:
            parts = {
                str(place): (name, opened.enter_context(path.open("rb")), _media_type(name))
                for place, (name, path) in enumerate(files.items())
            }  # each under a name of its own: of those that share one Label Studio keeps the last
            answer = self._dict(
                "POST",
                f"/api/projects/{id}/import",
                f"the upload of {', '.join(files)} to project {id}",
                params={"commit_to_project": "false"},
                files=parts,
                timeout=_WRITE_TIMEOUT,
            )
        ids: list[int] = answer.get("file_upload_ids") or []
        return [UploadedFile(upload, self._upload_reference(upload)) for upload in ids]

    def _upload_reference(self, upload: int) -> str:
        found = self._dict("GET", f"/api/import/file-upload/{upload}", f"uploaded file {upload}")
        return f"/data/{found['file']}"

    # -- predictions ------------------------------------------------------------------------------------

    def import_predictions(self, id: int, predictions: Sequence[Json]) -> int:
        """Store predictions `{"task", "result", "score", "model_version"}`; returns how many.

        Predictions for tasks that were deleted meanwhile are left out. Raises `StudioError` naming how many
        Label Studio dropped for other reasons (it drops silently what does not fit the label config).
        """
        created = dropped = 0
        for chunk in _chunks(predictions):
            made, gone = self._import_predictions(id, chunk)
            created += made
            dropped += len(chunk) - made - gone
        if dropped:
            raise StudioError(
                f"Label Studio at {self.url} dropped {dropped} of {len(predictions)} predictions for project "
                f"{id}: they do not fit its label config, which was changed perhaps."
            )
        return created

    def _import_predictions(self, id: int, chunk: Sequence[Json]) -> tuple[int, int]:
        """How many were created, and for how many the task is gone.

        One task that is gone makes Label Studio refuse all; halving finds it.
        """
        try:
            answer = self._dict(
                "POST",
                f"/api/projects/{id}/import/predictions",
                f"predictions for project {id}",
                body=chunk,
                timeout=_WRITE_TIMEOUT,
            )
            return int(answer.get("created", 0)), 0
        except StudioError as error:
            if _TASK_IS_GONE not in error.detail:
                raise
        if len(chunk) == 1:
            log.info("project %d: task %s is gone, its prediction is left out", id, chunk[0].get("task"))
            return 0, 1
        half = len(chunk) // 2
        first, second = self._import_predictions(id, chunk[:half]), self._import_predictions(id, chunk[half:])
        return first[0] + second[0], first[1] + second[1]

    def prediction_versions(self, id: int) -> dict[str, int]:
        """Model version → how many predictions of it there are."""
        return {
            str(version): int(count)
            for version, count in self._dict(
                "GET", f"/api/projects/{id}/model-versions/", f"project {id}"
            ).items()
        }

    def delete_predictions(self, id: int, version: str) -> None:
        """Delete all predictions of a version (about 200 a second)."""
        self._http.send(
            "DELETE",
            f"/api/projects/{id}/model-versions/",
            f"predictions of {version} in project {id}",
            body={"model_version": version},
            timeout=_WRITE_TIMEOUT,
        )

    def rescore_prediction(self, task: int, version: str, score: float) -> None:
        """Give the prediction of a version for one task another score; nothing where there is none."""
        doing = f"predictions of task {task}"
        held = self._list("GET", "/api/predictions/", doing, params={"task": task})
        for prediction in held:
            if prediction.get("model_version") == version and prediction.get("score") != score:
                path = f"/api/predictions/{prediction['id']}/"
                self._http.send("PATCH", path, doing, body={"score": score})

    # -- Data Manager -----------------------------------------------------------------------------------

    def views(self, id: int) -> list[Json]:
        """The tabs of the Data Manager; titles are in `data`."""
        return self._list("GET", "/api/dm/views/", f"tabs of project {id}", params={"project": id})

    def create_view(self, id: int, title: str, ordering: Sequence[str]) -> Json:
        """Make a tab, ordered by columns such as `tasks:predictions_score` (`-tasks:…` for descending)."""
        data = {"title": title, "type": "list", "target": "tasks", "ordering": list(ordering)}
        return self._dict(
            "POST", "/api/dm/views/", f"a tab of project {id}", body={"project": id, "data": data}
        )

    # -- backends and webhooks --------------------------------------------------------------------------

    def ml_backends(self, id: int) -> list[Json]:
        """The connected backends; asking makes Label Studio call `/health` and `/setup` of each."""
        return self._list("GET", "/api/ml", f"backends of project {id}", params={"project": id}, timeout=60.0)

    def create_ml_backend(self, id: int, **fields: Any) -> Json:
        """Connect a backend; Label Studio calls its `/health` and `/setup` first."""
        return self._dict(
            "POST",
            "/api/ml",
            f"the backend {fields.get('url')}",
            body={"project": id, **fields},
            timeout=60.0,
        )

    def update_ml_backend(self, backend: int, **fields: Any) -> Json:
        """Change a connected backend; Label Studio calls its `/health` and `/setup`."""
        return self._dict("PATCH", f"/api/ml/{backend}", f"backend {backend}", body=fields, timeout=60.0)

    def webhooks(self, id: int) -> list[Json]:
        """The project's webhooks."""
        return self._list("GET", "/api/webhooks/", f"webhooks of project {id}", params={"project": id})

    def create_webhook(self, id: int, url: str, headers: Mapping[str, str]) -> Json:
        """Have every event of the project sent to `url`."""
        body = {
            "project": id,
            "url": url,
            "send_payload": True,
            "send_for_all_actions": True,
            "is_active": True,
            "headers": dict(headers),
        }
        return self._dict("POST", "/api/webhooks/", f"the webhook {url}", body=body)

    def update_webhook(self, webhook: int, **fields: Any) -> Json:
        """Change a webhook."""
        return self._dict("PATCH", f"/api/webhooks/{webhook}/", f"webhook {webhook}", body=fields)

    def delete_webhook(self, webhook: int) -> None:
        """Delete a webhook."""
        self._http.send("DELETE", f"/api/webhooks/{webhook}/", f"webhook {webhook}")

    # -- storages ---------------------------------------------------------------------------------------

    def local_storages(self, id: int) -> list[Json]:
        """The folders on Label Studio's machine that it serves to the project; `path` names each."""
        return self._list(
            "GET", "/api/storages/localfiles/", f"storages of project {id}", params={"project": id}
        )

    def create_local_storage(self, id: int, path: str) -> Json:
        """Serve a folder, which must lie below (and not be) Label Studio's LOCAL_FILES_DOCUMENT_ROOT."""
        body = {"project": id, "path": path, "title": path, "use_blob_urls": True}
        return self._dict("POST", "/api/storages/localfiles/", f"the local folder {path}", body=body)

    # -- anything else ----------------------------------------------------------------------------------

    def get(self, path_or_url: str, *, stream: bool = False) -> requests.Response:
        """An answer of 2xx; only Label Studio itself sees the token, wherever the URL or a redirect leads."""
        return self._http.send("GET", path_or_url, path_or_url, stream=stream)

    def post(self, path: str, body: Any) -> Any:
        """What Label Studio answers to a JSON body."""
        return self._http.json("POST", path, path, body=body)

    def _rows(self, id: int, filters: Sequence[Json]) -> Iterator[Json]:
        """Tasks by ascending id; paged by id, so that tasks that come or go meanwhile hide no other."""
        last = 0
        while True:
            beyond = [*filters, _filter("id", "greater", "Number", last)]
            query = {"filters": {"conjunction": "and", "items": beyond}, "ordering": ["tasks:id"]}
            page = self._dict(
                "GET",
                "/api/tasks",
                f"project {id}",
                params={
                    "project": id,
                    "page_size": _ROWS,
                    "page": 1,
                    "query": json.dumps(query),
                    "resolve_uri": "false",  # data as it was imported, not with signed URLs
                    "review": "true",  # never asks a backend, whatever the project's settings
                },
                timeout=max(60.0, self._http.timeout),
            )
            rows = page["tasks"]
            yield from rows
            if len(rows) >= page["total"]:
                return
            last = rows[-1]["id"]

    def _dict(self, method: str, path: str, doing: str, **how: Any) -> Json:
        found = self._http.json(method, path, doing, **how)
        return found if isinstance(found, dict) else {}

    def _list(self, method: str, path: str, doing: str, **how: Any) -> list[Json]:
        found = self._http.json(method, path, doing, **how)
        return found if isinstance(found, list) else []


def _filter(column: str, operator: str, kind: str, value: Any) -> Json:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _chunks(items: Sequence[Json]) -> Iterator[list[Json]]:
    """Bounded in number and in bytes; an item larger than the bound goes alone."""
    chunk: list[Json] = []
    size = 0
    for item in items:
        length = len(json.dumps(item))
        if chunk and (len(chunk) >= _REQUEST_ITEMS or size + length > _REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += length
    if chunk:
        yield chunk


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
