from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from model_folders import card_of

from model_zoo.card import CARD_NAME, ONNX_NAME, STATE_NAME, ModelCard, ModelSpec
from model_zoo.errors import BrokenModel, UnknownVersion
from model_zoo.registry import Registry

pytestmark = pytest.mark.fast
SPEC = ModelSpec(classes=2)
ONE, TWO, THREE, FOUR = (f"v{number:04d}-aaaaaa" for number in (1, 2, 3, 4))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ticks = iter(range(10_000))
    return Registry(tmp_path / "models", now=lambda: start + timedelta(seconds=next(ticks)))


def work(registry: Registry, content: str = "weights") -> Path:
    folder = registry.root.parent / f"work-{content}"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / STATE_NAME).write_text(content)
    (folder / ONNX_NAME).write_text(content)
    (folder / "checkpoints" / "last.ckpt").write_text("large")
    return folder


def publish(registry: Registry, *versions: str) -> None:
    for version in versions:
        registry.publish(work(registry, version), card_of(SPEC, version))


def test_a_version_holds_the_model_and_nothing_else(registry: Registry) -> None:
    folder = work(registry)
    published = registry.publish(folder, card_of(SPEC, ONE))
    assert published == registry.root / ONE == registry.folder(ONE) == registry.verify(ONE)
    assert {path.name for path in published.iterdir()} == {STATE_NAME, ONNX_NAME, CARD_NAME}
    assert set(ModelCard.read(published).files) == {STATE_NAME, ONNX_NAME}
    assert (folder / "checkpoints" / "last.ckpt").exists()
    assert registry.champion() is None


def test_publishing_again_is_harmless_and_other_content_is_refused(registry: Registry) -> None:
    publish(registry, ONE, ONE)
    assert [event.action for event in registry.history()] == ["publish"]
    with pytest.raises(BrokenModel, match="never change"):
        registry.publish(work(registry, "other"), card_of(SPEC, ONE))


def test_a_model_without_weights_or_name_is_not_published(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match=STATE_NAME):
        registry.publish(tmp_path, card_of(SPEC, ONE))
    for name in ("", "latest", "../v0001-aaaaaa", "v1-aaaaaa"):
        with pytest.raises(BrokenModel, match="v0001"):
            registry.publish(work(registry), card_of(SPEC, name))
    with pytest.raises(BrokenModel, match="card lists"):
        registry.publish(work(registry), card_of(SPEC, ONE, files={STATE_NAME: "0"}))
    assert registry.versions() == []


def test_unknown_versions_are_answered_with_the_known_ones(registry: Registry) -> None:
    with pytest.raises(UnknownVersion, match="none yet"):
        registry.folder(ONE)
    publish(registry, ONE, TWO)
    for call in (registry.folder, registry.card, registry.verify, lambda v: registry.promote(v, "")):
        with pytest.raises(UnknownVersion, match=f"{ONE}, {TWO}"):
            call(THREE)


def test_damage_is_found(registry: Registry) -> None:
    publish(registry, ONE, TWO)
    (registry.folder(ONE) / STATE_NAME).write_text("bit rot")
    (registry.folder(TWO) / ONNX_NAME).unlink()
    with pytest.raises(BrokenModel, match="damaged"):
        registry.verify(ONE)
    with pytest.raises(BrokenModel, match="missing"):
        registry.promote(TWO, "better")
    assert registry.champion() is None


def test_an_unreadable_card_hides_one_version_only(registry: Registry) -> None:
    publish(registry, ONE, TWO)
    (registry.folder(ONE) / CARD_NAME).write_text("{")
    assert [card.version for card in registry.cards()] == [TWO]


def test_rolling_back_goes_further_each_time_and_promoting_starts_anew(registry: Registry) -> None:
    publish(registry, ONE, TWO, THREE, FOUR)
    for version in (ONE, TWO, THREE):
        registry.promote(version, "better")
    assert registry.rollback("worse on new steel") == TWO
    assert registry.rollback() == ONE
    with pytest.raises(UnknownVersion, match="no earlier"):
        registry.rollback()
    assert registry.champion() == ONE
    registry.promote(FOUR, "better")
    assert registry.rollback() == ONE
    told = [(event.action, event.version, event.previous) for event in registry.history()[4:]]
    assert told[2:5] == [("promote", THREE, TWO), ("rollback", TWO, THREE), ("rollback", ONE, TWO)]
    assert registry.history()[7].reason == "worse on new steel"


def test_promoting_the_champion_again_changes_nothing(registry: Registry) -> None:
    publish(registry, ONE, TWO)
    registry.promote(ONE, "first")
    registry.promote(TWO, "better")
    registry.promote(TWO, "better")
    assert len(registry.history()) == 4
    assert registry.rollback() == ONE


def test_rolling_back_passes_over_what_is_gone(registry: Registry) -> None:
    publish(registry, ONE, TWO, THREE)
    for version in (ONE, TWO, THREE):
        registry.promote(version, "")
    (registry.folder(TWO) / STATE_NAME).unlink()
    assert registry.rollback() == ONE


def test_numbers_are_never_used_twice(registry: Registry) -> None:
    assert registry.next_version("aaaaaa") == ONE
    publish(registry, ONE, TWO)
    for path in sorted(registry.folder(TWO).iterdir()):
        path.unlink()
    registry.root.joinpath(TWO).rmdir()
    assert registry.next_version("ab12cd") == "v0003-ab12cd"
    publish(registry, "v9999-aaaaaa")
    assert registry.next_version("ab12cd") == "v10000-ab12cd"
    publish(registry, "v10000-ab12cd")
    assert registry.versions()[-1] == "v10000-ab12cd"
    with pytest.raises(BrokenModel):
        registry.next_version("Main")


def test_half_written_folders_are_ignored_and_replaced(registry: Registry) -> None:
    torn = registry.root / f".incoming-{ONE}"
    torn.mkdir(parents=True)
    (torn / STATE_NAME).write_text("half")
    (torn / "left over").write_text("half")
    (registry.root / TWO).mkdir()
    (registry.root / "notes").mkdir()
    assert registry.versions() == []
    publish(registry, ONE)
    assert registry.versions() == [ONE]
    assert not torn.exists()
    assert not (registry.folder(ONE) / "left over").exists()


def test_a_torn_line_of_history_is_passed_over(registry: Registry) -> None:
    publish(registry, ONE, TWO)
    registry.promote(ONE, "first")
    path = registry.root / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    registry.promote(TWO, "better")
    assert [event.version for event in registry.history()] == [ONE, TWO, ONE, TWO]
    assert registry.rollback() == ONE


def test_killed_after_the_pointer_moved_the_history_still_knows(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, ONE, TWO)

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_append", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.promote(ONE, "first")
    assert registry.champion() == ONE
    assert registry.history()[-1].reason == "first"
    registry.promote(TWO, "better")
    assert [event.reason for event in registry.history()[2:]] == ["first", "better"]
    lines = (registry.root / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines[2:]] == ["first", "better"]


def test_a_spoilt_pointer_is_told_with_its_mend(registry: Registry) -> None:
    publish(registry, ONE)
    (registry.root / "champion").write_text("")
    with pytest.raises(BrokenModel, match="promote a version again"):
        registry.champion()
    (registry.root / "champion").unlink()
    registry.promote(ONE, "again")
    assert registry.champion() == ONE


def test_writers_wait_for_one_another(registry: Registry) -> None:
    versions = [f"v{number:04d}-aaaaaa" for number in range(1, 9)]
    publish(registry, *versions)
    others = [Registry(registry.root) for _ in versions]
    threads = [
        threading.Thread(target=other.promote, args=(version, ""))
        for other, version in zip(others, versions, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    champions = [registry.champion(), *(registry.rollback() for _ in versions[1:])]
    assert sorted(map(str, champions)) == versions


BUSY = """
import itertools, sys
from pathlib import Path
sys.path[:0] = {path!r}
from model_folders import card_of
from model_zoo.card import ModelSpec
from model_zoo.registry import Registry
registry = Registry(Path({root!r}))
while True:
    version = registry.next_version("aaaaaa")
    registry.publish(Path({work!r}), card_of(ModelSpec(classes=2), version))
    registry.promote(version, "busy")
    print(version, flush=True)
    if int(version[1:5]) % 3 == 0:
        registry.rollback()
"""


@pytest.mark.parametrize("after", [1, 2, 4])
def test_killed_at_any_moment_the_registry_stays_whole(registry: Registry, after: int) -> None:
    here = Path(__file__)
    script = BUSY.format(
        path=[str(here.parent), str(here.parents[2])], root=str(registry.root), work=str(work(registry))
    )
    promoted = ""
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(after):
                promoted = process.stdout.readline().strip()
            os.kill(process.pid, signal.SIGKILL)
        champion = registry.champion()
        assert champion is not None
        for version in registry.versions():
            registry.verify(version)
        assert {event.version for event in registry.history()} >= {promoted, champion}
        assert registry.next_version("bbbbbb")[:5] > promoted[:5]
