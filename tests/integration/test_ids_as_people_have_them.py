"""The id that Meta shows, or that a list of ours shows, finds its event by every command, route and search."""

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from replay.log.reader import LogReader
from replay.operations.events import Search, UnknownEvent, list_events, show_event
from replay.prove.why import Question, explain
from schemas.errors import InvalidSelection, NothingSelected
from schemas.providers.base import event_id
from tests.conftest import Stack
from tests.support.cases import requests_of
from tests.support.consoles import KEY, Consoles
from tests.support.folding import fold_live
from tests.support.records import payment, produce, record, stripe_event
from tests.support.replays import planned, rerun
from tests.support.selections import any_of, selected

(CASE,) = requests_of("28")
WAMID = shlex.split(CASE["commands"][0])[-1]
STORED = event_id(WAMID)
ODD = "a/b+c:d e%é="
SPELLED = [WAMID, STORED, STORED.replace("%3D", "%3d"), f"{WAMID} "]


@pytest.fixture
async def source(stack: Stack, topic: str, connection: Any) -> str:
    """The case's message, an event of Stripe whose id needs escapes, and others."""
    records = [
        record(topic, "whatsapp", CASE["body"].encode()),
        record(topic, "stripe", stripe_event(ODD, "invoice.sent", {"id": "in_1"})),
        record(topic, "stripe", payment(1)),
    ]
    await produce(stack.servers, records)
    await fold_live(stack, connection, topic)
    return topic.removeprefix("webhooks.")


@pytest.mark.parametrize("text", SPELLED)
async def test_it_is_shown_searched_replayed_and_explained(
    stack: Stack, source: str, connection: Any, text: str
) -> None:
    def open_log() -> LogReader:
        return LogReader(stack.cluster)

    assert (await show_event(connection, open_log, source, text, None))["type"] == "whatsapp.message.text"
    assert len((await list_events(connection, Search(q=text.strip()), 9, None, None)).events) == 1
    assert len((await list_events(connection, Search(q=text.strip()[-7:]), 9, None, None)).events) == 1
    assert (await planned(stack, connection, selected((source,), event_ids=(text,)))).records == 1
    if not text.endswith(" "):
        key = ("messages", source, text)
        assert (await planned(stack, connection, selected((source,), from_ms=0, keys=(key,)))).records == 1
        async with open_log() as reader:
            question = Question("messages", (source, text))
            said = await explain(connection, reader, question, lambda *_: None)
        assert [history.key for history in said.histories] == [(source, WAMID)]


async def test_the_route_takes_it_raw_and_escaped(pages: str, source: str, connection: Any) -> None:
    async with aiohttp.ClientSession(headers=KEY) as session:
        for shown in (WAMID, ODD):
            stored = event_id(shown)
            paths = [quote(shown, safe=""), quote(shown, safe="=/+"), stored, stored.replace("%", "%25")]
            for path in paths:
                # As it is: the client would tidy the escapes up.
                asked = URL(f"{pages}/api/events/{source}/{path}", encoded=True)
                async with session.get(asked) as response:
                    assert (response.status, (await response.json())["locations"] != []) == (200, True), path


async def test_a_text_that_may_mean_two_events_finds_neither(stack: Stack, topic: str, connection: Any) -> None:
    source = topic.removeprefix("webhooks.")
    bodies = [stripe_event(name, "invoice.sent", {"id": "in_1"}) for name in ("evt=", "evt%3D")]
    await produce(stack.servers, [record(topic, "stripe", body) for body in bodies])
    await fold_live(stack, connection, topic)
    with pytest.raises(InvalidSelection, match="may mean two events"):
        await show_event(connection, lambda: LogReader(stack.cluster), source, "evt%3D", None)
    with pytest.raises(InvalidSelection, match="may mean two events"):
        await planned(stack, connection, selected((source,), event_ids=("evt=", "evt%3D")))
    for text in ("evt=", "evt%253D"):
        assert (await planned(stack, connection, selected((source,), event_ids=(text,)))).records == 1


async def test_ids_that_select_nothing_are_no_success(
    stack: Stack, source: str, connection: Any, database_url: str, tmp_path: Path
) -> None:
    nothing = selected((source,), event_ids=("evt_none", "wamid.none=="))
    plan = await planned(stack, connection, nothing)
    assert (plan.records, plan.unknown_events) == (0, ["evt_none", "wamid.none=="])
    with pytest.raises(NothingSelected, match="not in the index: evt_none, wamid"):
        plan.require_records()
    union = any_of(nothing, selected((source,), from_ms=0, to_ms=1))
    for selection in (nothing, union):
        entry = await rerun(stack, database_url, connection, selection)
        assert (entry["state"], "no record is selected" in entry["error"]) == ("failed", True)
    # A window in which nothing came is no mistake.
    entry = await rerun(stack, database_url, connection, selected((source,), from_ms=0, to_ms=1))
    assert entry["state"] == "done"
    with pytest.raises(UnknownEvent):
        await show_event(connection, lambda: LogReader(stack.cluster), source, "evt_none", None)
    # The order of one id that is there and one that is not is carried out.
    entry = await rerun(stack, database_url, connection, selected((source,), event_ids=("evt_none", "evt_1")))
    assert (entry["state"], entry["records"]) == ("done", 1)
    consoles = Consoles(stack, database_url, tmp_path, source)
    (tmp_path / "redrive.toml").write_text(
        f'[sources.{source}]\nprovider = "stripe"\nsecrets = ["whsec_of_the_shop"]\n'
    )
    process = await consoles.command("replay", "run", "--event-id", "evt_none", "--reason", "x", "--foreground")
    out, err = await process.communicate()
    assert (process.returncode, b"not in the index: evt_none" in b" ".join(err.split())) == (1, True), (out, err)
