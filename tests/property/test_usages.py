"""No source takes back what another one said (invariant 5): usages of several senders share a table, and not a row."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.fold import combine, fold_record
from schemas.facts import CREDIT_ENTRIES
from tests.support.records import FakeRecord, record

SENDERS = ("standardwebhooks", "sw2", "standardwebhooks-2", "stripe")
IDS = ("1", "sw2:1", "source:sw2:1", "standardwebhooks:1", "2:1")


def usage(number: int, sender: str, used_id: str, account: str, credits: int, at: int) -> FakeRecord:
    data = {"id": used_id, "customer": f"cus_{number % 3}", "credits": credits, "source": account}
    body = json.dumps({"type": "credits.used", "timestamp": f"2026-01-0{at}T00:00:00Z", "data": data}).encode()
    return record(f"webhooks.{sender}", "standardwebhooks", body, number, signed_id=f"msg_{number}")


@st.composite
def usages(draw: st.DrawFn) -> list[FakeRecord]:
    count = draw(st.integers(1, 8))
    one = st.tuples(
        st.sampled_from(SENDERS), st.sampled_from(IDS), st.sampled_from(SENDERS), st.integers(1, 3), st.integers(1, 3)
    )
    return [usage(number, *draw(one)) for number in range(count)]


def entries(records: Sequence[FakeRecord]) -> dict[Any, Any]:
    rows = combine([fold_record(one) for one in records]).tables.get(CREDIT_ENTRIES, [])
    return {CREDIT_ENTRIES.key(row): row for row in rows}


@given(usages(), st.randoms(use_true_random=False))
def test_the_entries_of_a_source_are_those_of_its_own_usages_in_any_order(
    records: list[FakeRecord], order: Any
) -> None:
    alone = [entries([one for one in records if one.topic == f"webhooks.{sender}"]) for sender in SENDERS]
    shuffled = order.sample(records, len(records))
    together = entries(shuffled)
    assert together == entries(records)
    assert sum(map(len, alone)) == len(together)
    for own in alone:
        assert own.items() <= together.items()
