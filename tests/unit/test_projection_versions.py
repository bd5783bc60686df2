"""A generation's versions say which code folded it: so every change of a projection's meaning must be a new version."""

from typing import Any

import pytest

from processors import projections
from processors.fold import fold_record
from tests import projection_lock
from tests.support.corrections import correction, correction_record
from tests.support.fixtures import READABLE, of_fixture
from tests.support.records import story_record
from tests.support.story import Author, write

NOW = 1_760_000_000
CHANGES: list[dict[str, Any]] = [
    {"type": "credits.adjusted", "customer": "cus_1", "credits": 5},
    {"type": "account.frozen", "customer": "cus_1"},
    {"type": "subscription.corrected", "subscription": "s", "status": "active", "customer": "cus_1"},
]


def test_a_projection_is_what_it_was_when_its_version_was_written_down() -> None:
    assert projection_lock.faults(projection_lock.read(), projection_lock.now()) == []


def test_only_what_could_change_a_row_is_looked_at() -> None:
    source = '"""A page."""\nVERSION: Final = 1\ndef f(a):\n    """Text."""\n    return a + 1  # why\n'
    same = "VERSION: Final = 2\n\ndef f(a):\n    return (a +\n        1)\n"
    assert projection_lock.meaning(source) == projection_lock.meaning(same)
    assert projection_lock.meaning(source) != projection_lock.meaning(source.replace("+ 1", "+ 2"))


def test_a_change_without_a_new_version_is_a_fault_and_one_with_it_is_to_be_written_down() -> None:
    before: dict[str, projection_lock.Locked] = {"x": {"version": 1, "sha256": "a"}}
    (changed,) = projection_lock.faults(before, {"x": {"version": 1, "sha256": "b"}})
    assert "add 1 to VERSION" in changed
    (new,) = projection_lock.faults(before, {"x": {"version": 2, "sha256": "b"}})
    assert new == "x: run `python -m tests.projection_lock`"
    (gone,) = projection_lock.faults(before, {})
    assert "no projection any more" in gone


def test_a_projection_says_which_tables_it_writes() -> None:
    written: dict[str, set[str]] = {name: set() for name in projection_lock.modules()}
    told = [story_record(webhook, NOW) for webhook in write(Author(1, start=NOW - 200_000), 5).webhooks]
    said = [correction_record(correction(f"c{n}", change)) for n, change in enumerate(CHANGES)]
    for one in [*map(of_fixture, READABLE), *told, *said]:
        folded = fold_record(one)
        assert not folded.letters
        written["operator" if one in said else folded.events[0].provider] |= {table.name for table, _ in folded.rows}
    assert written == {name: projections.writes()[name] for name in written}


def test_a_plug_in_that_says_nothing_is_version_1_and_may_write_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(projections.PROJECTIONS, "stripe.customer.created", lambda *_: [])
    assert projections.versions()["stripe.customer.created"] == 1
    assert projections.versions().keys() == {*projections.PROJECTIONS, "operator"}
    assert projections.writes()["stripe.customer.created"] >= projections.writes()["stripe"]
