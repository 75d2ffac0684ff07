"""The file of classes: what is understood, and what is said about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.data.classes_file import BadClasses, find_classes_file, parse_classes, read_classes

pytestmark = pytest.mark.fast


def names(content: object) -> list[str]:
    return [info.name for info in parse_classes(content).classes]


def test_classes_stand_in_the_order_of_their_indices() -> None:
    content = {"classes": [{"index": 1, "name": "pore", "color": "red"}, {"index": 0, "name": "matrix"}]}
    found = parse_classes(content)
    assert [(info.name, info.color) for info in found.classes] == [("matrix", "#000000"), ("pore", "red")]
    assert found.colors[1] == (255, 0, 0)


@pytest.mark.parametrize(
    "content", [["matrix", "pore"], {"classes": ["matrix", "pore"]}, {"matrix": "#000", "pore": [9, 9, 9]}]
)
def test_names_alone_and_names_with_colours_are_classes_too(content: object) -> None:
    assert names(content) == ["matrix", "pore"]


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"classes": ["matrix", "pore"], "ignore_color": "white"}))
    (tmp_path / "c.yaml").write_text("classes:\n - matrix\n - {name: pore}\nignore_color: '#ffffff'\n")
    assert read_classes(tmp_path / "c.json") == read_classes(tmp_path / "c.yaml")


def test_a_class_named_ignore_gives_the_colour_and_index_to_ignore() -> None:
    content = [{"name": "matrix"}, {"name": "pore"}, {"name": "Ignore", "index": 9, "color": "#00ff00"}]
    found = parse_classes(content)
    assert [info.name for info in found.classes] == ["matrix", "pore"]
    assert (found.ignore_index, found.ignore_color) == (9, (0, 255, 0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"labels": []}, "has no name|lists"),
        (7, "no list of classes"),
        (["pore"], "two at least"),
        (["pore", "Pore"], "listed twice"),
        ([{"name": "a", "index": 0}, {"name": "b", "index": 2}], "0 to 1, each once"),
        ([{"name": "a"}, {"color": "red"}], "number 1 has no name"),
        ([{"name": "a"}, {"name": "b", "color": "reddish"}], "'reddish' is unknown"),
        ([{"name": "a"}, {"name": "b", "index": "1"}], "must be a whole number"),
        ({"classes": ["a", "b"], "ignore_index": 1}, "above the class indices"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(content: object, said: str) -> None:
    with pytest.raises(BadClasses, match=said):
        parse_classes(content)


def test_a_broken_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    with pytest.raises(BadClasses, match="does not exist; write one such as"):
        read_classes(path)
    path.write_text("{")
    with pytest.raises(BadClasses, match=f"{path} cannot be read"):
        read_classes(path)
    path.write_text('["pore"]')
    with pytest.raises(BadClasses, match=str(path)):
        read_classes(path)


def test_the_file_is_looked_for_in_the_folders_and_above_them(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    assert find_classes_file(tmp_path / "masks") is None
    (tmp_path / "classes.yaml").write_text("[matrix, pore]")
    assert find_classes_file(tmp_path / "masks") == tmp_path / "classes.yaml"


def test_the_real_sets_are_understood(shared_data: Path) -> None:
    found = read_classes(shared_data / "nasa_super" / "classes.json")
    assert [info.name for info in found.classes] == ["matrix", "secondary", "tertiary"]
