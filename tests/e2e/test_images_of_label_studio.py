"""Images as a real Label Studio serves them, with both kinds of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from pydantic import SecretStr

from examples.demo.label_studio import LabelStudioProcess
from srpu_backend.images import ImageStore, ImageUnavailable
from srpu_backend.projects import Connection
from srpu_backend.settings import Settings
from srpu_backend.studio import Studio

pytestmark = pytest.mark.e2e

PIXELS = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "sem 1.png"
    Image.fromarray(PIXELS).save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(Settings(model_dir=tmp_path))


@pytest.fixture(scope="module")
def personal_token(label_studio: LabelStudioProcess) -> Iterator[str]:
    """A user has one at a time, so that another module's is revoked before and ours afterwards."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Token {label_studio.account.token}"

        def revoke_all() -> None:
            for known in session.get(f"{label_studio.url}/api/token/", timeout=30).json():
                revoked = {"refresh": known["token"]}
                session.post(f"{label_studio.url}/api/token/blacklist/", json=revoked, timeout=30)

        revoke_all()
        answer = session.post(f"{label_studio.url}/api/token/", timeout=30)
        answer.raise_for_status()
        yield str(answer.json()["token"])
        revoke_all()


@pytest.fixture(params=["legacy", "personal"])
def connection(
    request: pytest.FixtureRequest, label_studio: LabelStudioProcess, personal_token: str
) -> Connection:
    token = personal_token if request.param == "personal" else label_studio.account.token
    return Connection(label_studio.url, SecretStr(token))


@pytest.fixture
def local_file(label_studio: LabelStudioProcess, studio: Studio, project_id: int, png: Path) -> Path:
    """A file in a folder that is connected as local storage; served as `?d=<folder>/<name>`."""
    assert label_studio.document_root is not None
    folder = label_studio.document_root / f"project-{project_id}"
    folder.mkdir()
    path = folder / png.name
    path.write_bytes(png.read_bytes())
    studio.post("/api/storages/localfiles/", {"project": project_id, "path": str(folder)})
    return path


def test_uploads_are_fetched(
    images: ImageStore, connection: Connection, studio: Studio, project_id: int, png: Path
) -> None:
    (uploaded,) = studio.upload(project_id, {png.name: png})
    assert np.array_equal(images.load(uploaded.reference, connection), PIXELS)


def test_local_files_are_fetched_and_revalidated(
    tmp_path: Path, connection: Connection, local_file: Path
) -> None:
    now = [1_000_000.0]
    images = ImageStore(Settings(model_dir=tmp_path), now=lambda: now[0])
    reference = f"/data/local-files/?d={local_file.parent.name}/{local_file.name}"
    first = images.fetch(reference, connection)
    assert first == images.fetch(connection.url + reference, connection)
    assert first.read_bytes() == local_file.read_bytes()
    now[0] += 61
    assert images.fetch(reference, connection) == first
    Image.fromarray(PIXELS[::-1].copy()).save(local_file)
    now[0] += 61
    assert np.array_equal(images.load(reference, connection), PIXELS[::-1])


@pytest.mark.parametrize(
    "reference", ["/data/upload/1/none.png", "/data/local-files/?d=../../etc/passwd", "/data/local-files/?d="]
)
def test_what_label_studio_has_not_is_refused_in_a_sentence(
    images: ImageStore, connection: Connection, reference: str
) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        images.fetch(reference, connection)
    assert str(caught.value).endswith(".")


def test_a_wrong_token_is_told(
    images: ImageStore,
    label_studio: LabelStudioProcess,
    new_project: Callable[..., int],
    png: Path,
    studio: Any,
) -> None:
    (uploaded,) = studio.upload(new_project(), {png.name: png})
    wrong = Connection(label_studio.url, SecretStr("0" * 40))
    with pytest.raises(ImageUnavailable, match="token"):
        images.fetch(uploaded.reference, wrong)


def test_a_cloud_reference_without_a_storage_is_told(
    images: ImageStore, connection: Connection, studio: Studio, project_id: int
) -> None:
    (task,) = studio.import_tasks(project_id, [{"data": {"image": "s3://bucket/sem.png"}}])
    with pytest.raises(ImageUnavailable, match="404"):
        images.fetch("s3://bucket/sem.png", connection, task)
