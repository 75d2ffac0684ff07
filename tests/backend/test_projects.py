"""What is remembered of each project, and that several writers and broken files do no harm."""

from __future__ import annotations

import multiprocessing
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from srpu_backend.projects import (
    BadProjectReference,
    BrokenProject,
    Connection,
    Project,
    Projects,
    UnknownProject,
    parse_project_id,
)
from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast


@pytest.fixture
def projects(tmp_path: Path) -> Projects:
    return Projects(tmp_path)


@pytest.mark.parametrize(
    ("reference", "id"), [("1.1795332156", 1), ("12", 12), (7, 7), (" 3 ", 3), ("4.", 4)]
)
def test_project_ids_are_parsed_as_label_studio_sends_them(reference: object, id: int) -> None:
    assert parse_project_id(reference) == id


@pytest.mark.parametrize(
    "reference", ["", "x", None, True, 0, -1, 1.5, [], {}, "../1", "1/2", "1.x", "9" * 40, "٣٤x"]
)
def test_anything_else_names_no_project(reference: object) -> None:
    with pytest.raises(BadProjectReference, match="does not name a project"):
        parse_project_id(reference)


def test_what_is_remembered_is_found_again(projects: Projects) -> None:
    projects.remember(
        3, title="Ni alloy", url="http://ls:8080/", token="abc", label_config="<View/>", parameters={"a": 1}
    )
    project = projects.get(3)
    assert (project.id, project.title, project.label_config_xml) == (3, "Ni alloy", "<View/>")
    assert project.connection == Connection("http://ls:8080", SecretStr("abc"))
    assert project.parameters == {"a": 1}
    assert projects.ids() == [3]


def test_what_is_not_given_stays(projects: Projects) -> None:
    projects.remember(3, title="Ni alloy", url="http://ls", token="abc")
    project = projects.remember(3, label_config="<View/>")
    assert project.title == "Ni alloy"
    assert project.connection == Connection("http://ls", SecretStr("abc"))


def test_the_token_is_readable_by_the_owner_only_and_never_printed(projects: Projects) -> None:
    project = projects.remember(3, url="http://ls", token="very-secret")
    assert stat.S_IMODE((project.root / "project.json").stat().st_mode) == 0o600
    assert "very-secret" not in repr(project) + repr(project.connection)


def test_another_host_never_gets_the_old_token(projects: Projects) -> None:
    projects.remember(3, url="http://ls", token="abc")
    assert projects.remember(3, url="http://elsewhere").connection is None


def test_configured_connection_wins_over_the_remembered_one(tmp_path: Path) -> None:
    settings = Settings(
        model_dir=tmp_path, label_studio_url="http://right/", label_studio_api_key=SecretStr("key")
    )
    project = Projects.of(settings).remember(3, url="http://wrong", token="abc")
    assert project.connection == Connection("http://right", SecretStr("key"))


def test_an_api_key_without_url_is_not_sent_to_whoever_calls_setup(tmp_path: Path) -> None:
    settings = Settings(model_dir=tmp_path, label_studio_url="", label_studio_api_key=SecretStr("key"))
    project = Projects.of(settings).remember(3, url="http://ls", token="abc")
    assert project.connection == Connection("http://ls", SecretStr("abc"))


def test_unknown_project_says_how_to_connect_it(projects: Projects) -> None:
    with pytest.raises(UnknownProject, match=r"Project 8 is not connected.*connect --project 8"):
        projects.get(8)


@pytest.mark.parametrize("broken", [b"", b'{"title": ', b"\xff\xfe", b"[]", b'{"title": 3}'])
def test_a_broken_record_is_told_and_mended_by_the_next_setup(projects: Projects, broken: bytes) -> None:
    root = projects.remember(3, title="Ni alloy").root
    (root / "project.json").write_bytes(broken)
    with pytest.raises(BrokenProject, match=r"project\.json cannot be read"):
        projects.get(3)
    assert projects.remember(3, title="again").title == "again"
    assert projects.get(3).title == "again"
    assert [p.read_bytes() for p in root.glob("project.json.broken-*")] == [broken]


def test_state_changes_field_by_field(projects: Projects) -> None:
    project = projects.remember(3)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    project.update_state(stage="train", fraction=0.5, last_reconcile=at)
    project.update_state(fraction=0.75)
    state = projects.get(3).state()
    assert (state.stage, state.fraction, state.last_reconcile) == ("train", 0.75, at)


def test_state_refuses_unknown_fields(projects: Projects) -> None:
    with pytest.raises(TypeError, match="stagee"):
        projects.remember(3).update_state(stagee="train")


@pytest.mark.parametrize("broken", [b"", b"{", b"\xff", b'{"labelled": "many"}'])
def test_a_broken_state_starts_afresh(projects: Projects, broken: bytes) -> None:
    project = projects.remember(3)
    (project.root / "state.json").write_bytes(broken)
    assert project.state().stage == "idle"
    assert project.update_state(stage="train").stage == "train"


def test_the_newest_fifty_problems_are_kept_and_repeats_once(projects: Projects) -> None:
    project = projects.remember(3)
    for number in range(60):
        project.note_problem("predict", f"problem {number}")
    project.note_problem("predict", "problem 30")
    messages = [problem.message for problem in project.problems()]
    assert len(messages) == 50
    assert messages[-1] == "problem 30"
    assert messages.count("problem 30") == 1


def test_a_torn_line_costs_no_other_problem(projects: Projects) -> None:
    project = projects.remember(3)
    project.note_problem("predict", "kept")
    with (project.root / "problems.jsonl").open("ab") as file:
        file.write(b'{"at": "20')
    assert [problem.message for problem in project.problems()] == ["kept"]


def _note(root: Path, who: int) -> None:
    project: Project = Projects(root).get(1)
    for number in range(5):
        project.note_problem("test", f"{who}.{number}")


def test_several_processes_lose_nothing(projects: Projects, tmp_path: Path) -> None:
    projects.remember(1)
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_note, args=(tmp_path, who)) for who in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(projects.get(1).problems()) == 15
    assert not list(projects.get(1).root.glob(".*.json*"))
