"""`python -m training rank`: a folder in, a ranking out."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from micrograph_folders import texture, write_image

from model_zoo.card import ClassInfo, ModelCard, ModelSpec
from training.__main__ import main
from training.active_learning import ranking as ranking_module
from training.active_learning.embedders import Texture
from training.active_learning.images import frames_of, list_images

CLASSES = (ClassInfo(name="matrix", implicit=True), ClassInfo(name="pore"), ClassInfo(name="crack"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two films of four frames, and six single images."""
    for film in (1, 2):
        for frame in range(4):
            write_image(
                tmp_path / "images" / f"{film}.0V-00{frame}.png", texture([film, 10 + frame], (64, 96))
            )
    for single in range(6):
        write_image(tmp_path / "images" / f"{single:02d}.png", texture(single, (64, 96)))
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was taught nothing, and answers all the same."""
    import torch

    from model_zoo.architectures import build
    from model_zoo.store import save_model

    spec = ModelSpec(encoder="tu-test_resnet", classes=3, options={"decoder_channels": [64, 32, 16, 16, 8]})
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_model(build(spec), folder)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ModelCard(version="v0007-abcdef", created_at=now, spec=spec, classes=CLASSES, tile=128).write(folder)
    return folder


def ranked(folder: Path, *arguments: str) -> dict[str, Any]:
    out = folder / "ranking.json"
    assert main(["rank", "--images", str(folder / "images"), "--out", str(out), *arguments]) == 0
    return dict(json.loads(out.read_text()))


def keys(ranking: dict[str, Any]) -> list[str]:
    return [item["key"] for item in ranking["items"]]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["rank", *arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.mark.fast
def test_before_there_is_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranking = ranked(folder, "--budget", "50")
    assert sorted(item["group"] for item in ranking["items"]) == sorted(
        ["1.0V", "2.0V", *(f"{single:02d}" for single in range(6))]
    )
    assert [item["rank"] for item in ranking["items"]] == list(range(1, 9))
    assert {item["arm"] for item in ranking["items"]} == {"hybrid", "control"}
    assert all(item["why"].endswith(".") and Path(item["path"]).is_file() for item in ranking["items"])
    assert (ranking["model"], ranking["strategy"], ranking["seed"]) == ("", "hybrid", 0)
    said = capsys.readouterr()
    assert "8 images are ranked and not 50" in said.err
    assert "--per-sequence" in said.err
    assert len(keys(ranked(folder, "--budget", "50", "--per-sequence", "0"))) == 14


@pytest.mark.fast
def test_names_and_order_of_files_do_not_matter_to_what_is_chosen(folder: Path) -> None:
    first = ranked(folder, "--budget", "6", "--seed", "3")
    assert keys(ranked(folder, "--budget", "6", "--seed", "3")) == keys(first)
    shutil.rmtree(folder / "ranking.cache")
    assert ranked(folder, "--budget", "6", "--seed", "3", "--workers", "1") == first
    assert keys(ranked(folder, "--budget", "6", "--seed", "4")) != keys(first)


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["stems", "paths", "masks", "manifest"])
def test_labelled_images_are_told_in_every_way(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["00", "1.0V-002", "05"]
    listed = folder / ("labeled.json" if kind == "manifest" else "labeled.txt")
    if kind == "stems":
        listed.write_text("# by hand\n00\n\n1.0V-002.png\n05\n")
    elif kind == "paths":
        listed.write_text("".join(f"images/{name}.png\n" for name in names))
    elif kind == "masks":
        listed = folder / "masks"
        for name in names:
            write_image(listed / f"{name}_mask.png", np.zeros((64, 96), np.uint8))
    else:
        samples = [
            {"key": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png", "group": name}
            for name in names
        ]
        listed.write_text(json.dumps({"classes": [], "samples": samples}))
    ranking = ranked(folder, "--labeled", str(listed), "--strategy", "coreset", "--budget", "99")
    assert ranking["labeled"] == 3
    assert len(ranking["items"]) == 11
    assert not set(names) & set(keys(ranking))
    assert "no image in the folder" not in capsys.readouterr().err


@pytest.mark.fast
def test_labelled_images_that_lie_elsewhere_count_and_lost_names_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(folder / "labelled" / "old.png", texture(77, (64, 96)))
    (folder / "list.txt").write_text("labelled/old.png\n00\nnobody\n")
    ranking = ranked(folder, "--labeled", str(folder / "list.txt"), "--budget", "3")
    assert (ranking["images"], ranking["labeled"]) == (15, 2)
    assert "1 labelled names fit no image in the folder: nobody." in capsys.readouterr().err
    assert "as far from everything labelled" in " ".join(item["why"] for item in ranking["items"])


@pytest.mark.fast
def test_another_image_of_the_same_name_is_not_labelled_but_a_copy_is(folder: Path) -> None:
    write_image(folder / "other" / "00.png", texture(50, (64, 96)))
    shutil.copy(folder / "images" / "01.png", folder / "other" / "elsewhere.png")
    (folder / "list.txt").write_text("other/00.png\nother/elsewhere.png\n")
    found = keys(ranked(folder, "--labeled", str(folder / "list.txt"), "--budget", "99"))
    assert "00" in found
    assert "01" not in found


@pytest.mark.fast
def test_what_cannot_be_read_is_named_and_copies_are_not_shown_twice(folder: Path) -> None:
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    image = cv2.imread(str(folder / "images" / "03.png"), 0)
    write_image(folder / "images" / "03b.png", (image * 0.8).astype(np.uint8))
    ranking = ranked(folder, "--strategy", "random", "--budget", "99")
    reasons = {skipped["key"]: skipped["reason"] for skipped in ranking["skipped"]}
    assert "broken" in reasons
    assert len({"03", "03b"} & set(keys(ranking))) == 1
    assert "shows the same" in reasons[({"03", "03b"} - set(keys(ranking))).pop()]


@pytest.mark.fast
def test_nothing_is_looked_at_twice_and_a_killed_run_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking_module, "_BATCH", 4)
    calls: list[int] = []
    whole = Texture.__call__

    def counted(self: Texture, image: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return whole(self, image)

    monkeypatch.setattr(Texture, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        ranked(folder, "--workers", "1")
    before = len(calls)
    ranked(folder, "--workers", "1")
    assert len(calls) - before <= 14 - 4, "what was kept is not computed again"
    before = len(calls)
    ranked(folder, "--budget", "3", "--strategy", "typiclust")
    assert len(calls) == before
    write_image(folder / "images" / "00.png", texture(99, (64, 96)))
    ranked(folder)
    assert len(calls) == before + 1, "a changed file is looked at again"


@pytest.mark.fast
def test_bad_input_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = str(folder / "images"), str(folder / "out.json")
    asked = ["--images", images, "--out", out]
    assert "did you mean hybrid" in refused(capsys, *asked, "--strategy", "hybird")
    assert "--model" in refused(capsys, *asked, "--strategy", "entropy")
    assert "number from 1 on" in refused(capsys, *asked, "--budget", "0")
    assert "does not exist" in refused(capsys, *asked, "--labeled", str(folder / "no.txt"))
    assert "not a folder" in refused(capsys, "--images", str(folder / "no"), "--out", out)
    assert "is not a model" in refused(capsys, *asked, "--model", str(folder))
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(capsys, *asked, "--labeled", str(folder / "binary.txt"))


@pytest.mark.fast
def test_nothing_to_rank_is_no_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    out = folder / "out.json"
    assert main(["rank", "--images", str(folder / "empty"), "--out", str(out)]) == 0
    assert "no images" in capsys.readouterr().err
    ranking = ranked(folder, "--labeled", str(folder / "images"), "--json")
    assert ranking["items"] == []
    said = capsys.readouterr().out
    assert "All 14 images are labelled" in json.loads(said)["notes"][0]


@pytest.mark.fast
def test_neighbouring_frames_are_found(folder: Path) -> None:
    images = list_images(folder / "images")
    film = [image for image in images if image.key.startswith("1.0V")]
    names = [path.stem[-1] for path in frames_of(film[1], film, 5)]
    assert names == ["0", "0", "1", "2", "3"]
    single = next(image for image in images if image.key == "00")
    assert frames_of(single, [single], 3) == ()


@pytest.mark.slow
def test_with_a_model(folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.txt").write_text("00\n01\n")
    arguments = ["--model", str(model), "--labeled", str(folder / "list.txt"), "--budget", "6"]
    ranking = ranked(folder, *arguments, "--strategy", "bald", "--heatmaps", str(folder / "maps"))
    assert ranking["model"] == "v0007-abcdef"
    scores = [item["score"] for item in ranking["items"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    assert "The model is unsure here, more than in" in ranking["items"][0]["why"]
    pictures = sorted((folder / "maps").iterdir())
    assert [path.name.split("-")[0] for path in pictures] == [f"{place:04d}" for place in range(1, 7)]
    assert cv2.imread(str(pictures[0])).shape == (64, 96, 3)
    cold = ranked(folder, *arguments)
    assert cold["embedding"].startswith("encoder-1")
    assert "torch" in sys.modules


@pytest.mark.slow
def test_with_a_model_and_enough_labels_classes_decide(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.active_learning.hybrid.COLD_BELOW", 2)
    (folder / "list.txt").write_text("00\n01\n")
    arguments = ["--model", str(model), "--labeled", str(folder / "list.txt"), "--budget", "6"]
    ranking = ranked(folder, *arguments)
    whys = [item["why"] for item in ranking["items"] if item["arm"] == "hybrid"]
    assert any("The model is unsure of “" in why for why in whys)
    assert all("labelled" in why for why in whys)
    assert len({item["group"] for item in ranking["items"]}) == 6
