"""The demo's parts that need no Label Studio: folders, label configs, leaving nothing running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from examples.demo.data import BadDataFolder, label_config, read_folder, slug
from examples.demo.once import FEWEST_LEFT, LoopFailed, Portions
from examples.demo.processes import Child, wait_until
from examples.demo.watchdog import ROOT, Watchdog, watch
from training.simulator import write_dataset

pytestmark = pytest.mark.fast


def test_a_labelled_folder_gives_its_masks_and_an_implicit_background(tmp_path: Path) -> None:
    names = write_dataset(tmp_path, 2, 0, (64, 64))
    folder = read_folder(tmp_path)
    assert [path.name for path in folder.images] == names
    assert folder.masked
    assert [(info.name, info.implicit) for info in folder.classes][:2] == [
        ("matrix", True),
        ("particle", False),
    ]
    assert [info.name for info in folder.labels] == ["particle", "pore", "crack"]


def test_a_plain_folder_is_labelled_with_the_names_that_were_given(tmp_path: Path) -> None:
    for name in ("b.tif", "a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in read_folder(tmp_path).images] == ["a.PNG", "b.tif"]
    assert [info.name for info in read_folder(tmp_path).labels] == ["feature"]
    assert [info.name for info in read_folder(tmp_path, ["pore", "crack", "pore"]).labels] == [
        "pore",
        "crack",
    ]
    assert not read_folder(tmp_path).masked


def test_class_zero_is_drawn_when_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    listed = [{"index": 0, "name": "austenite", "implicit": False}, {"index": 1, "name": "ferrite"}]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": listed}))
    assert [info.name for info in read_folder(tmp_path).labels] == ["austenite", "ferrite"]


@pytest.mark.parametrize(
    "content",
    ["{", '{"classes": [{"index": 1, "name": "a"}]}', '{"classes": [{"index": 0, "name": "a"}]}', "[]"],
)
def test_classes_that_cannot_be_used_are_told_with_their_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(BadDataFolder, match=r"classes\.json"):
        read_folder(tmp_path)


def test_an_empty_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataFolder, match="no PNG, JPEG or TIFF"):
        read_folder(tmp_path)
    with pytest.raises(BadDataFolder, match="not a folder"):
        read_folder(tmp_path / "missing")


def test_only_images_with_masks_take_part_in_a_round(tmp_path: Path) -> None:
    first, second = write_dataset(tmp_path, 2, 0, (64, 64))
    (tmp_path / "masks" / first).unlink()
    assert [path.name for path in read_folder(tmp_path).with_masks_only(tmp_path / "copies").images] == [
        second
    ]
    (tmp_path / "masks" / second).unlink()
    with pytest.raises(BadDataFolder, match="no masks"):
        read_folder(tmp_path).with_masks_only(tmp_path / "more")


def test_the_label_config_is_well_formed_whatever_the_names(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    names = ['a "b" <c> & d', "γ′"]
    tree = ElementTree.fromstring(label_config(read_folder(tmp_path, names).labels))
    assert [label.get("value") for label in tree.iter("Label")] == names


@pytest.mark.parametrize("tasks", [5, 6, 8, 14, 24, 500])
def test_a_round_leaves_tasks_to_rank_and_labels_more_at_the_second_time(tasks: int) -> None:
    portions = Portions.of(tasks)
    assert 2 <= portions.first <= portions.more + 1 <= 15
    assert tasks - portions.first - portions.more >= FEWEST_LEFT


def test_a_round_of_too_few_images_is_refused() -> None:
    with pytest.raises(LoopFailed, match="at least 5"):
        Portions.of(4)


def test_slugs_are_folder_names() -> None:
    assert slug("my data/γ (2)") == "my-data-2"
    assert slug("..") == "data"


def test_the_watchdog_forgets_what_it_is_told_to_forget() -> None:
    assert watch(["+12\n", "+13\n", "-12\n", "+1\n", "+x\n", "\n"]) == {13}


def test_children_die_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from examples.demo.watchdog import Watchdog\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "Watchdog().watch(child.pid)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    child = int(done.stdout)
    assert wait_until(lambda: not _runs(child), 20, pause=0.05)


def test_stopping_ends_a_child_and_what_it_started(tmp_path: Path) -> None:
    watchdog = Watchdog()
    command = ["bash", "-c", "sleep 300 & echo $!; wait"]
    child = Child("sleeper", command, os.environ, tmp_path / "log", watchdog)
    child.start()
    assert wait_until(lambda: (tmp_path / "log").read_text().strip() != "", 20, pause=0.05)
    grandchild = int((tmp_path / "log").read_text())
    child.stop()
    watchdog.close()
    assert child.pid is None
    assert wait_until(lambda: not _runs(grandchild), 20, pause=0.05)


def _runs(pid: int) -> bool:
    """Whether the process is there and not a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
