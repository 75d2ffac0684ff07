"""Our own Label Studio: starts beside others, ends completely, and says why it cannot start."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from examples.demo.label_studio import (
    LOOPBACK,
    LabelStudioFailed,
    LabelStudioMissing,
    LabelStudioProcess,
)
from srpu_backend.studio import Studio

pytestmark = pytest.mark.e2e


def test_two_live_beside_each_other_and_keep_their_data(
    label_studio: LabelStudioProcess, tmp_path: Path
) -> None:
    config = '<View><Image name="i" value="$i"/></View>'
    with LabelStudioProcess(tmp_path / "data") as second, Studio(second.url, second.account.token) as studio:
        made = studio.create_project("only here", config)["id"]
        with Studio(label_studio.url, label_studio.account.token) as first:
            assert first.projects_titled("only here") == []
    with LabelStudioProcess(tmp_path / "data") as again, Studio(again.url, again.account.token) as studio:
        assert studio.projects_titled("only here") == [made]


def test_stopping_leaves_no_process_and_no_listener(label_studio: LabelStudioProcess, tmp_path: Path) -> None:
    process = LabelStudioProcess(tmp_path / "data").start()
    pid = process.pid
    assert pid is not None
    process.stop()
    process.stop()
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, process.port)) != 0


@pytest.mark.fast
def test_a_missing_installation_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabelStudioMissing, match="make install-label-studio"):
        LabelStudioProcess(tmp_path, executable=tmp_path / "label-studio").start()


def test_a_port_in_use_is_told(label_studio: LabelStudioProcess, tmp_path: Path) -> None:
    with pytest.raises(LabelStudioFailed, match="in use"):
        LabelStudioProcess(tmp_path / "data", port=label_studio.port).start()


def test_its_last_words_are_told_when_it_dies_at_once(
    label_studio: LabelStudioProcess, tmp_path: Path
) -> None:
    script = tmp_path / "label-studio"
    script.write_text("#!/bin/sh\necho the database is on fire\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(LabelStudioFailed, match="the database is on fire"):
        LabelStudioProcess(tmp_path / "data", executable=script, templates=None).start()
