"""The holdout: by hash, within its share, never to move."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.holdout import BrokenLedger, HoldoutLedger

pytestmark = pytest.mark.fast
groups = st.dictionaries(st.text(min_size=1, max_size=6), st.integers(0, 12), max_size=25)
shares = st.floats(0, 1)


def within(share: float, total: int) -> float:
    return share * total + 1e-6


@given(groups, shares, st.integers(0, 4))
def test_one_assignment_keeps_to_the_share_and_leaves_groups_for_training(
    present: dict[str, int], share: float, min_train: int
) -> None:
    with TemporaryDirectory() as folder:
        holdout = HoldoutLedger(Path(folder) / "holdout.json").assign(present, share, min_train)
    labelled = {group for group, count in present.items() if count}
    assert holdout <= labelled
    assert sum(present[group] for group in holdout) <= within(share, sum(present.values()))
    if holdout:
        assert len(labelled - holdout) >= min_train


@given(groups, shares)
def test_the_order_in_which_groups_are_listed_does_not_matter(present: dict[str, int], share: float) -> None:
    with TemporaryDirectory() as folder:
        one = HoldoutLedger(Path(folder) / "one.json").assign(present, share)
        other = HoldoutLedger(Path(folder) / "other.json").assign(dict(reversed(present.items())), share)
    assert one == other


@given(st.lists(st.tuples(groups, shares), min_size=2, max_size=6))
def test_no_group_ever_moves(rounds: list[tuple[dict[str, int], float]]) -> None:
    sides: dict[str, bool] = {}
    with TemporaryDirectory() as folder:
        for present, share in rounds:
            holdout = HoldoutLedger(Path(folder) / "holdout.json").assign(present, share)
            for group, count in present.items():
                if count:
                    assert sides.setdefault(group, group in holdout) == (group in holdout)


def test_a_group_keeps_its_side_when_its_labels_vanish_and_return(tmp_path: Path) -> None:
    ledger = HoldoutLedger(tmp_path / "holdout.json")
    everyone = {str(number): 1 for number in range(8)}
    (held, *_) = ledger.assign(everyone, 0.25)
    without = {group: count for group, count in everyone.items() if group != held}
    assert held not in ledger.assign(without, 0.25)
    assert held in ledger.assign(everyone, 0.0)


def test_an_unlabelled_group_is_decided_on_only_when_it_is_labelled(tmp_path: Path) -> None:
    ledger = HoldoutLedger(tmp_path / "holdout.json")
    ledger.assign({"a": 1, "later": 0}, 0.5)
    known = ledger.read()
    assert "later" not in known.holdout | known.train


def test_the_holdout_grows_with_the_labels(tmp_path: Path) -> None:
    ledger = HoldoutLedger(tmp_path / "holdout.json")
    sizes = [len(ledger.assign({str(n): 1 for n in range(count)}, 0.25)) for count in range(1, 41)]
    assert sizes == sorted(sizes)
    assert sizes[2] == 0
    assert sizes[-1] == 10


def test_three_of_thirty_fit_into_a_tenth(tmp_path: Path) -> None:
    everyone = {str(number): 1 for number in range(30)}
    assert len(HoldoutLedger(tmp_path / "holdout.json").assign(everyone, 0.1)) == 3


def test_nothing_is_written_when_nothing_is_new(tmp_path: Path) -> None:
    path = tmp_path / "project" / "holdout.json"
    HoldoutLedger(path).assign({"a": 1}, 0.5)
    before = path.stat().st_ino  # every write is a new file
    HoldoutLedger(path).assign({"a": 3}, 0.5)
    assert path.stat().st_ino == before
    assert [entry.name for entry in path.parent.iterdir()] == ["holdout.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"holdout": 3}', b"\xff"])
def test_a_broken_ledger_stops_everything_and_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "holdout.json"
    path.write_bytes(content)
    with pytest.raises(BrokenLedger, match=r"holdout\.json cannot be read"):
        HoldoutLedger(path).assign({"a": 1}, 0.5)
    assert path.read_bytes() == content
