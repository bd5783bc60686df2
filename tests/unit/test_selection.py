"""What an operator asks for, as a value: it narrows, it widens, it comes back from the ledger as it went in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.selection.document import parse_selection
from replay.selection.matcher import Choice, Chosen, pinned
from replay.selection.offsets import Offsets
from replay.selection.selection import Range, RowKey, Selection
from schemas.errors import InvalidSelection
from tests.support.records import FakeRecord

SOURCES = ("stripe", "twilio")
names = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=2, unique=True).map(tuple)
texts = st.lists(st.text("abc*.:", min_size=1, max_size=5), max_size=3).map(tuple)
moments = st.integers(0, 4_102_444_800_000)


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    sources = draw(names)
    since = draw(st.none() | moments)
    until = draw(st.none() | st.integers((since or 0) + 1, 4_102_444_800_001))
    parts = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(1, 50)), max_size=3))
    keys = draw(st.lists(st.tuples(*[st.text("ab", min_size=1, max_size=3)] * 3), max_size=2))
    event_ids = draw(texts)
    is_located = bool(parts or keys or event_ids)
    is_dead = draw(st.booleans()) or (since is None and not is_located)
    return Selection(
        sources,
        since,
        until,
        by=draw(st.sampled_from(["arrival", "event"])) if (since, until) != (None, None) else "arrival",
        types=draw(texts),
        event_ids=event_ids,
        offsets=tuple(Range(f"webhooks.{sources[0]}", p, a, a + n) for p, a, n in parts),
        is_dead=is_dead,
        keys=tuple(RowKey(model, (a, b)) for model, a, b in keys),
    )


@given(selections() | st.lists(selections(), min_size=1, max_size=3).map(lambda some: Selection(any_of=tuple(some))))
def test_its_document_reads_back_as_the_same_selection(selection: Selection) -> None:
    assert parse_selection(selection.as_document(), SOURCES) == selection


def test_the_flags_names_do_and_one_value_stands_for_a_list() -> None:
    found = parse_selection(
        {"source": "stripe", "from": "2026-11-21T00:00:00Z", "type": "stripe.*", "event_id": "evt_1"}, SOURCES
    )
    assert found == Selection(("stripe",), 1795219200000, types=("stripe.*",), event_ids=("evt_1",))
    assert parse_selection({"key": ["accounts", "stripe", "cus_1"]}, SOURCES) == Selection(
        SOURCES, keys=(RowKey("accounts", ("stripe", "cus_1")),)
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"types": ["stripe.*"]},
        {"to": "2026-11-21T00:00:00Z"},
        {"from": "never"},
        {"from": 5},
        {"from": "2026-11-21T00:00:00Z", "to": "2026-11-20T00:00:00Z"},
        {"from": "2026-11-21T00:00:00Z", "by": "moon"},
        {"dead_letters": True, "by": "event"},
        {"dead_letters": 1},
        {"sources": ["nobody"], "dead_letters": True},
        {"event_ids": ["a\0b"]},
        {"event_ids": ["x" * 1001]},
        {"event_ids": ["x"] * 1001},
        {"offsets": ["webhooks.stripe:0:5-4"]},
        {"sources": ["stripe"], "offsets": ["webhooks.twilio:0:0-4"]},
        {"keys": [["accounts"]]},
        {"any": [{"dead_letters": True}], "sources": ["stripe"]},
        {"any": [{"any": [{"dead_letters": True}]}]},
        {"any": [{}]},
        {"nothing": "such"},
    ],
)
def test_what_names_nothing_or_cant_be_read_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidSelection) as refused:
        parse_selection(document, SOURCES)
    assert "--" not in str(refused.value), "who sends JSON knows no flags"


def record(kind: str = "stripe.charge.refunded", **parts: Any) -> FakeRecord:
    said = [("ce_type", kind.encode())]
    if "ce_time" in parts:
        said.append(("ce_time", parts.pop("ce_time").encode()))
    return FakeRecord(**{"topic": "webhooks.stripe", "partition": 0, "offset": 7, "timestamp": 1000, **parts}, key=b"k", value=b"", headers=said)  # fmt: skip


def test_several_criteria_narrow_and_a_union_adds() -> None:
    narrow = Choice(Selection(("stripe",), 500, 2000, types=("stripe.charge.*",), event_ids=("e",)), Offsets([Range("webhooks.stripe", 0, 5, 8)]))  # fmt: skip
    window = Choice(Selection(("twilio",), 0), None)
    either = Chosen([narrow, window])
    assert narrow.holds(record())
    for other in (record(offset=8), record(partition=1), record(timestamp=2000), record("stripe.invoice.paid")):
        assert narrow.holds(other) is False
        assert either.holds(other) is False
    assert either.holds(record())
    assert either.holds(record(topic="webhooks.twilio"))
    assert narrow.holds(record("stripe.batch")) is None, "only its events can tell"
    assert pinned(Selection(any_of=(narrow.selection, window.selection)), either.as_document()).holds(record())


def test_a_window_is_on_the_clock_that_was_asked_for() -> None:
    by_event = Choice(Selection(("stripe",), 5000, by="event"), None)
    assert by_event.holds(record(ce_time="1970-01-01T00:00:05+00:00"))
    assert by_event.holds(record(timestamp=9000, ce_time="1970-01-01T00:00:04.999+00:00")) is False
    assert by_event.holds(record(timestamp=5000)), "without a time of its provider's it is that of its arrival"
    assert by_event.holds(record(timestamp=4000, ce_time="tomorrow")) is False
