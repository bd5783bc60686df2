"""Invariant 9, nobody is dragged along: whatever one event of a delivery holds, the good ones around it have rows, no
phone number is made of what is none, and no purchase ends in nobody's balance in silence.

`ODD_DELIVERIES` of each provider (`make fuzz`: 300), made by `FUZZ_SEED`.
"""

import os
import re
from collections.abc import Iterable
from typing import Any

import pytest

from processors.fold import fold_record
from processors.store import Span, Store
from schemas.envelope import VerifiedDelivery, record_headers
from schemas.errors import RejectedDelivery
from schemas.providers import PROVIDERS, identify, verify
from tests.fuzz.checks import may_be_refused
from tests.fuzz.request import NOW
from tests.fuzz.signing import SECRETS
from tests.support.cases import KeptLetters
from tests.support.odd import Odd, deliveries, leaves
from tests.support.records import FakeRecord
from tests.support.tables import empty

COUNT, SEED = int(os.environ.get("ODD_DELIVERIES", "25")), int(os.environ.get("FUZZ_SEED", "1"))
BATCH = 50
ADDRESSES = {"messages": ("sender", "recipient", "our_number", "peer_number"), "calls": ("caller", "callee")}
PHONE_CHANNELS = ("", "whatsapp", "tel", "sip", "sips")
"""What may stand before a phone number's colon."""

_PURCHASES = "SELECT count(*) FROM payments WHERE status = 'succeeded' AND purpose = 'credit_purchase'"

_SILENT = """
    SELECT p.payment_intent_id FROM payments AS p
    WHERE p.status = 'succeeded' AND p.purpose = 'credit_purchase' AND NOT EXISTS (
        SELECT FROM credit_entries AS e
        WHERE (e.source, e.entry_id) = (p.source, p.payment_intent_id) AND e.customer_id IS NOT NULL
    ) AND NOT EXISTS (
        SELECT FROM webhook_events AS w
        WHERE w.event_id = replace(p.payment_intent_id, 'pi_', 'evt_') AND w.error IS NOT NULL
    ) AND NOT EXISTS (
        SELECT FROM unassigned_purchases AS u WHERE (u.source, u.payment_intent_id) = (p.source, p.payment_intent_id)
    )
"""


def logged(name: str, odds: Iterable[Odd]) -> tuple[list[Odd], list[FakeRecord]]:
    """What verifies, as records of one partition; what does not was never a delivery of the provider's."""
    taken: list[Odd] = []
    records: list[FakeRecord] = []
    for odd in odds:
        delivery = odd.request.delivery(name)
        try:
            verified = verify(PROVIDERS[name], delivery, SECRETS[name], NOW)
        except RejectedDelivery:
            assert may_be_refused(name, delivery), odd.kind
            continue
        records.append(_record(name, verified, len(records)))
        taken.append(odd)
    return taken, records


def _record(name: str, verified: VerifiedDelivery, offset: int) -> FakeRecord:
    identity = identify(PROVIDERS[name], verified)
    headers = record_headers(verified, identity, PROVIDERS[name].kept_headers)
    return FakeRecord(
        f"webhooks.{name}", 0, offset, NOW * 1000, identity.record_id.encode(), verified.delivery.body, headers
    )


@pytest.mark.parametrize("name", PROVIDERS)
async def test_what_is_odd_drags_nothing_good_along(shared_connection: Any, name: str) -> None:
    print(f"{COUNT} odd deliveries of {name}, FUZZ_SEED={SEED}")
    connection = shared_connection
    await empty(connection)
    odds, records = logged(name, deliveries(name, COUNT, SEED))
    assert len(odds) > COUNT // 3, "most of them verify"
    letters = KeptLetters()
    store = Store(1, letters)
    for first in range(0, len(records), BATCH):
        part = records[first : first + BATCH]
        span = Span(f"webhooks.{name}", 0, first, first + len(part))
        await store.commit_batch(connection, span, [fold_record(one) for one in part])
    await _require_siblings(connection, odds)
    await _require_addresses(connection, odds)
    assert (await connection.fetchval(_PURCHASES) > COUNT // 10) == (name == "stripe")
    silent = [row[0] for row in await connection.fetch(_SILENT)]
    assert silent == [], "purchases that are in no balance and in no list"
    assert all(letter.reason in ("unparsable", "invalid_payload") for letter in letters.letters), {
        f"{letter.reason}: {letter.message}" for letter in letters.letters
    }


async def _require_siblings(connection: Any, odds: Iterable[Odd]) -> None:
    wanted: dict[tuple[str, str], dict[str, str]] = {}
    for odd in odds:
        for table, column, value in odd.siblings:
            wanted.setdefault((table, column), {})[value] = odd.kind
    for (table, column), values in wanted.items():
        rows = await connection.fetch(f"SELECT {column} FROM {table} WHERE {column} = ANY($1)", list(values))
        lost = {value: kind for value, kind in values.items() if value not in {row[0] for row in rows}}
        assert not lost, f"{len(lost)} good events of {len(values)} were dragged along: {list(lost.items())[:5]}"


async def _require_addresses(connection: Any, odds: Iterable[Odd]) -> None:
    said = {represented(leaf) for odd in odds for leaf in leaves(odd.request)}
    spoken = {spelling for leaf in said for spelling in numbers_of(leaf)}
    for table, columns in ADDRESSES.items():
        for row in await connection.fetch(f"SELECT {', '.join(columns)} FROM {table}"):
            for column, value in row.items():
                if value is None or value in said:
                    continue
                if value.startswith("+"):
                    assert value[1:] in spoken, f"{table}.{column}: {value} was in no delivery"
                else:
                    assert any(value.casefold() in leaf.casefold() for leaf in said), f"{table}.{column}: {value!r}"


def represented(text: str) -> str:
    """As Postgres holds it."""
    return "".join("\N{REPLACEMENT CHARACTER}" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def numbers_of(leaf: str) -> set[str]:
    """The digits of what may be written as E.164: nothing of a short code, or of what another channel calls a name."""
    channel, _, rest = leaf.rpartition(":")
    if channel.casefold() not in PHONE_CHANNELS:
        return set()
    digits = re.sub(r"\D", "", rest.replace("(0)", "").partition("@")[0])
    return {digits, digits.removeprefix("00"), digits.removeprefix("011")} if len(digits) >= 7 else set()
