"""A folder of micrographs into a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from examples.demo.label_studio import LabelStudioProcess
from srpu_backend.__main__ import main
from srpu_backend.importing import CannotImport, import_folder
from srpu_backend.projects import Projects
from srpu_backend.shelves import LocalFiles, NotServed, Uploads
from srpu_backend.studio import Studio, StudioError
from training.data.micrograph import Limits

pytestmark = pytest.mark.e2e


def grey(seed: int, dtype: type[np.generic] = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (24, 32)).astype(dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two frames of a sequence, a TIFF, a 16-bit PNG in a subfolder, and things that are no images."""
    folder = tmp_path / "micrographs"
    (folder / "aged 100h").mkdir(parents=True)
    cv2.imwrite(str(folder / "4.2V-001.png"), grey(1))
    cv2.imwrite(str(folder / "4.2V-010.png"), grey(2))
    cv2.imwrite(str(folder / "4.2V-002.jpg"), grey(3))
    tifffile.imwrite(folder / "fracture.tif", grey(4))
    cv2.imwrite(str(folder / "aged 100h" / "spot_7.png"), grey(5, np.uint16))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image either")
    return folder


def rows(studio: Studio, project: int) -> dict[str, dict[str, Any]]:
    return {row["data"]["name"]: row["data"] for row in studio.task_rows(project)}


def shown(studio: Studio, data: dict[str, Any]) -> np.ndarray:
    content = studio.get(data["image"]).content
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_images_become_tasks_in_order_with_sequence_and_frame(
    studio: Studio, project_id: int, folder: Path
) -> None:
    report = import_folder(
        studio, project_id, folder, Uploads(studio, project_id), allowed_folders=[folder.parent]
    )
    found = rows(studio, project_id)
    names = ["4.2V-001.png", "4.2V-002.jpg", "4.2V-010.png", "aged 100h/spot_7.png", "fracture.tif"]
    assert list(found) == names
    assert len(report.imported) == 5
    frames = [(data.get("sequence"), data.get("frame")) for data in found.values()]
    assert frames == [("4.2V", 1), ("4.2V", 2), ("4.2V", 10), ("spot", 7), (None, None)]


def test_browser_formats_go_as_they_are_and_others_as_proxies_with_their_original(
    studio: Studio, project_id: int, folder: Path
) -> None:
    import_folder(studio, project_id, folder, Uploads(studio, project_id), allowed_folders=[folder])
    found = rows(studio, project_id)
    assert studio.get(found["4.2V-001.png"]["image"]).content == (folder / "4.2V-001.png").read_bytes()
    assert "original" not in found["4.2V-001.png"]
    assert (shown(studio, found["fracture.tif"]) == grey(4)).all()
    assert found["fracture.tif"]["original"] == str(folder / "fracture.tif")
    deep = found["aged 100h/spot_7.png"]
    assert deep["original"] == str(folder / "aged 100h" / "spot_7.png")
    assert shown(studio, deep).dtype == np.uint8
    assert shown(studio, deep).shape == (24, 32)


def test_bad_files_are_listed_with_a_reason_and_stop_nothing(
    studio: Studio, project_id: int, folder: Path
) -> None:
    report = import_folder(
        studio, project_id, folder, Uploads(studio, project_id), limits=Limits(max_pixels=24 * 32)
    )
    assert len(report.imported) == 5
    (reason,) = report.bad
    assert "broken.png" in reason
    assert "1 left out" in report.as_text()


def test_importing_again_adds_only_what_is_new(studio: Studio, project_id: int, folder: Path) -> None:
    def again() -> tuple[int, int]:
        report = import_folder(studio, project_id, folder, Uploads(studio, project_id))
        return len(report.imported), report.known

    assert again() == (5, 0)
    assert again() == (0, 5)
    cv2.imwrite(str(folder / "later.png"), grey(6))
    (folder / "copy of fracture.tif").write_bytes((folder / "fracture.tif").read_bytes())
    assert again() == (1, 6)


def test_names_alike_but_for_folder_or_extension_stay_apart(
    studio: Studio, project_id: int, tmp_path: Path
) -> None:
    for place, name in enumerate(["a/001.tif", "b/001.tif", "a/001.tiff", "a__001.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("png"):
            cv2.imwrite(str(tmp_path / name), grey(place))
        else:
            tifffile.imwrite(tmp_path / name, grey(place))
    import_folder(studio, project_id, tmp_path, Uploads(studio, project_id))
    found = rows(studio, project_id)
    for place, name in enumerate(["a/001.tif", "b/001.tif", "a/001.tiff", "a__001.png"]):
        assert (shown(studio, found[name]) == grey(place)).all()


def test_a_pattern_may_take_the_sequence_from_the_folder(
    studio: Studio, project_id: int, folder: Path
) -> None:
    pattern = r"(?P<sequence>[^/]+)/\w+_(?P<frame>\d+)$"
    import_folder(studio, project_id, folder, Uploads(studio, project_id), name_pattern=pattern)
    data = rows(studio, project_id)["aged 100h/spot_7.png"]
    assert (data["sequence"], data["frame"]) == ("aged 100h", 7)


def test_of_a_data_set_the_masks_are_left_out(studio: Studio, project_id: int, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        cv2.imwrite(str(tmp_path / part / "a.png"), grey(len(part)))
    import_folder(studio, project_id, tmp_path, Uploads(studio, project_id))
    assert list(rows(studio, project_id)) == ["a.png"]


def test_originals_that_could_not_be_read_later_are_refused_now(
    studio: Studio, project_id: int, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CannotImport, match="SRPU_ALLOWED_IMAGE_FOLDERS"):
        import_folder(
            studio, project_id, folder, Uploads(studio, project_id), allowed_folders=[tmp_path / "other"]
        )
    assert rows(studio, project_id) == {}


def test_a_folder_without_images_is_told(studio: Studio, project_id: int, tmp_path: Path) -> None:
    with pytest.raises(CannotImport, match="holds no PNG"):
        import_folder(studio, project_id, tmp_path, Uploads(studio, project_id))
    with pytest.raises(CannotImport, match="is not a folder"):
        import_folder(studio, project_id, tmp_path / "none", Uploads(studio, project_id))


def test_local_files_are_served_from_where_they_lie(
    label_studio: LabelStudioProcess, studio: Studio, project_id: int, folder: Path
) -> None:
    assert label_studio.document_root is not None
    home = label_studio.document_root / f"lab {project_id}"
    folder = folder.rename(home)
    shelf = LocalFiles(studio, project_id, home, label_studio.document_root)
    import_folder(studio, project_id, folder=home, shelf=shelf, allowed_folders=[home])
    found = rows(studio, project_id)
    assert found["4.2V-001.png"]["image"] == f"/data/local-files/?d=lab%20{project_id}/4.2V-001.png"
    assert (shown(studio, found["4.2V-001.png"]) == grey(1)).all()
    assert (shown(studio, found["fracture.tif"]) == grey(4)).all()
    assert (home.with_name(f"{home.name}-proxies") / "aged 100h" / "spot_7.png").exists()
    assert len(studio.local_storages(project_id)) == 2
    again = LocalFiles(studio, project_id, home, label_studio.document_root)
    cv2.imwrite(str(home / "later.png"), grey(6))
    import_folder(studio, project_id, home, again)
    assert len(studio.local_storages(project_id)) == 2


def test_local_files_outside_the_document_root_are_told(
    label_studio: LabelStudioProcess, studio: Studio, project_id: int, folder: Path
) -> None:
    root = label_studio.document_root
    assert root is not None
    with pytest.raises(NotServed, match="not a folder below"):
        LocalFiles(studio, project_id, folder, root)
    with pytest.raises(NotServed, match="not a folder below"):
        LocalFiles(studio, project_id, root, root)
    wrong = LocalFiles(studio, project_id, folder, folder.parent)
    with pytest.raises(StudioError, match="does not accept the local folder"):
        import_folder(studio, project_id, folder, wrong)


def test_the_command_uses_what_connect_remembered(
    label_studio: LabelStudioProcess,
    studio: Studio,
    project_id: int,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "model-dir"))
    command: Callable[..., int] = lambda *more: main(  # noqa: E731
        ["import", str(folder), "--project", str(project_id), *more]
    )
    assert command() == 2
    assert "is not connected" in capsys.readouterr().err
    Projects(tmp_path / "model-dir").remember(
        project_id, url=label_studio.url, token=label_studio.account.token
    )
    assert command() == 2
    assert "SRPU_ALLOWED_IMAGE_FOLDERS" in capsys.readouterr().err
    assert command("--no-originals") == 1
    said = capsys.readouterr().out
    assert "5 imported, 0 already there, 1 left out." in said
    assert "broken.png" in said
    assert all("original" not in data for data in rows(studio, project_id).values())
    (folder / "broken.png").unlink()
    assert command("--no-originals") == 0


def test_real_micrographs_are_imported(studio: Studio, project_id: int, shared_data: Path) -> None:
    source = shared_data / "nasa_super"
    report = import_folder(studio, project_id, source, Uploads(studio, project_id))
    files = sorted((source / "images").iterdir())
    assert len(report.imported) == len(files)
    assert report.bad == []
    for data in list(rows(studio, project_id).values())[:3]:
        assert shown(studio, data).shape[:2] == cv2.imread(str(source / "images" / data["name"])).shape[:2]
