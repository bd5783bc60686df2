"""What an operator asks for, as a value: it narrows, it widens, it comes back from the ledger as it went in."""

import re
from types import SimpleNamespace
from typing import Any, cast

import click
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.terminal.selecting import selection_of, selection_options
from deploy.wiring import Runtime
from replay.api.replays import ReplayOrder
from replay.selection.matcher import Matcher
from replay.selection.offsets import Offsets
from replay.selection.selection import Range, Selection, parse_selection
from schemas.errors import InvalidSelection
from tests.support.records import FakeRecord
from tests.support.selections import any_of, selected

SOURCES = ("stripe", "twilio")
ALL = (*SOURCES, "operator")
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
    return selected(
        sources,
        since,
        until,
        by=draw(st.sampled_from(["arrival", "event"])) if (since, until) != (None, None) else "arrival",
        types=draw(texts),
        event_ids=event_ids,
        offsets=tuple(f"webhooks.{sources[0]}:{p}:{a}-{a + n - 1}" for p, a, n in parts),
        dead_letters=is_dead,
        keys=tuple(keys),
    )


@given(selections() | st.lists(selections(), min_size=1, max_size=3).map(lambda some: any_of(*some)))
def test_its_document_reads_back_as_the_same_selection(selection: Selection) -> None:
    assert parse_selection(selection.as_document(), SOURCES) == selection


def test_the_flags_names_do_and_one_value_stands_for_a_list() -> None:
    found = parse_selection(
        {"source": "stripe", "from": "2026-11-21T00:00:00Z", "type": "stripe.*", "event_id": "evt_1"}, SOURCES
    )
    assert found == selected(("stripe",), 1795219200000, types=("stripe.*",), event_ids=("evt_1",))
    assert parse_selection({"key": ["accounts", "stripe", "cus_1"]}, SOURCES) == selected(
        SOURCES, keys=(("accounts", "stripe", "cus_1"),)
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


def of_flags(*flags: str) -> Selection:
    found: list[Selection] = []

    @click.command
    @selection_options
    def command(**selection: Any) -> None:
        found.append(selection_of(cast(Runtime, SimpleNamespace(sources=dict.fromkeys(SOURCES))), **selection))

    command.main(flags, standalone_mode=False)
    return found[0]


WINDOW = ["--from", "2026-11-21T00:00:00Z", "--to", "2026-11-22T00:00:00Z"]


@pytest.mark.parametrize(
    ("flags", "document"),
    [
        (WINDOW, {"from": "2026-11-21T00:00:00Z", "to": "2026-11-22T00:00:00Z"}),
        ([*WINDOW, "--by", "event"], {"from": "2026-11-21T00:00:00Z", "to": "2026-11-22T00:00:00Z", "by": "event"}),
        (["--source", "twilio", "--event-id", "a", "--event-id", "b"], {"source": "twilio", "event_ids": ["a", "b"]}),
        (["--dead-letters", "--type", "stripe.*"], {"dead_letters": True, "type": "stripe.*"}),
        (["--offsets", "webhooks.stripe:0:5-7"], {"offsets": "webhooks.stripe:0:5-7"}),
        (["--key", "accounts", "stripe", "cus_1"], {"key": ["accounts", "stripe", "cus_1"]}),
        (["--key", "calls", "stripe", '["a", "b"]'], {"keys": [["calls", "stripe", "a", "b"]]}),
        (["--any", '{"event_id": "a"}'], {"event_id": "a"}),
        (["--any", '{"event_id": "a"}', "--any", '{"event_id": "b"}'], {"any": [{"event_id": "a"}, {"event_id": "b"}]}),
        (["--event-id", "a", "--any", '{"event_id": "b"}'], {"any": [{"event_id": "a"}, {"event_id": "b"}]}),
    ],
)
def test_flags_are_the_document_that_the_api_takes(flags: list[str], document: dict[str, Any]) -> None:
    order = ReplayOrder.model_validate_json(orjson.dumps({**document, "reason": "why"}))
    assert of_flags(*flags) == parse_selection(document, ALL) == order.among(ALL)


@pytest.mark.parametrize(
    ("flags", "document"),
    [
        ([], {}),
        (["--by", "event"], {"by": "event"}),
        (["--by", "event", "--dead-letters"], {"by": "event", "dead_letters": True}),
        ([*WINDOW[2:], "--from", "2026-11-23T00:00:00Z"], {"from": "2026-11-23T00:00:00Z", "to": "2026-11-22T00:00:00Z"}),
        (["--source", "nobody", "--dead-letters"], {"source": "nobody", "dead_letters": True}),
        (["--offsets", "webhooks.stripe:0"], {"offsets": "webhooks.stripe:0"}),
        (["--source", "twilio", "--offsets", "webhooks.stripe:0:5-7"], {"source": "twilio", "offsets": "webhooks.stripe:0:5-7"}),
        (["--event-id", "x" * 1001], {"event_ids": "x" * 1001}),
        (["--key", "accounts", "stripe", "[1]"], {"keys": ["accounts", "stripe", 1]}),
        (["--any", '{"any": [{"event_id": "a"}]}', "--dead-letters"], {"any": [{"dead_letters": True}, {"any": [{"event_id": "a"}]}]}),
        (["--any", "5"], 5),
    ],
)  # fmt: skip
def test_flags_and_documents_are_refused_in_the_same_words(flags: list[str], document: Any) -> None:
    with pytest.raises(InvalidSelection) as of_document:
        parse_selection(document, ALL)
    with pytest.raises(InvalidSelection, match=f"^{re.escape(str(of_document.value))}$"):
        of_flags(*flags)


def record(kind: str = "stripe.charge.refunded", **parts: Any) -> FakeRecord:
    said = [("ce_type", kind.encode())]
    if "ce_time" in parts:
        said.append(("ce_time", parts.pop("ce_time").encode()))
    return FakeRecord(**{"topic": "webhooks.stripe", "partition": 0, "offset": 7, "timestamp": 1000, **parts}, key=b"k", value=b"", headers=said)  # fmt: skip


def test_several_criteria_narrow_and_a_union_adds() -> None:
    charges = selected(("stripe",), 500, 2000, types=("stripe.charge.*",), event_ids=("e",))
    one = (charges, Offsets([Range("webhooks.stripe", 0, 5, 8)]))
    other_source = (selected(("twilio",), 0), None)
    narrow, either = Matcher([one]), Matcher([one, other_source])
    assert narrow.holds(record())
    for other in (record(offset=8), record(partition=1), record(timestamp=2000), record("stripe.invoice.paid")):
        assert narrow.holds(other) is False
        assert either.holds(other) is False
    assert either.holds(record())
    assert either.holds(record(topic="webhooks.twilio"))
    assert narrow.holds(record("stripe.batch")) is None, "only its events can tell"
    assert Matcher.pinned(any_of(charges, other_source[0]), either.as_document()).holds(record())


def test_a_window_is_on_the_clock_that_was_asked_for() -> None:
    by_event = Matcher([(selected(("stripe",), 5000, by="event"), None)])
    assert by_event.holds(record(ce_time="1970-01-01T00:00:05+00:00"))
    assert by_event.holds(record(timestamp=9000, ce_time="1970-01-01T00:00:04.999+00:00")) is False
    assert by_event.holds(record(timestamp=5000)), "without a time of its provider's it is that of its arrival"
    assert by_event.holds(record(timestamp=4000, ce_time="tomorrow")) is False
