"""Invariant 5 for usages of credits that share an id: the entry and its conflict depend on no order and no repetition, and
no usage is replaced unseen.
"""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from processors.fold import combine, fold_record
from schemas.facts import CREDIT_ENTRIES
from schemas.lattice import Row
from tests.support.records import FakeRecord, record


class Usage(NamedTuple):
    sender: str
    message: int
    entry: str
    customer: str
    credits: int
    day: int

    @property
    def record(self) -> FakeRecord:
        data = {"id": self.entry, "customer": self.customer, "credits": self.credits, "source": "stripe"}
        body = {"type": "credits.used", "timestamp": f"2026-01-0{self.day}T00:00:00Z", "data": data}
        signed_id = f"msg_{self.message}"
        return record(f"webhooks.{self.sender}", "standardwebhooks", json.dumps(body).encode(), signed_id=signed_id)

    @property
    def content(self) -> tuple[str, str, int, int]:
        return (self.sender, self.customer, self.credits, self.day)


USAGES = st.builds(
    Usage,
    st.sampled_from(["standardwebhooks", "billing", "metering"]),
    st.integers(1, 3),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["cus_1", "cus_2"]),
    st.integers(1, 2),
    st.integers(1, 2),
)


def entries(batches: Sequence[Sequence[Usage]]) -> dict[str, dict[str, Any]]:
    """Each batch folded by itself, and all of them merged as the table does."""
    folded = [combine([fold_record(one.record) for one in batch]).tables[CREDIT_ENTRIES] for batch in batches]
    rows: list[Row] = []
    for one in folded:
        rows = CREDIT_ENTRIES.join_all([*rows, *one])
    names = [column.name for column in CREDIT_ENTRIES.columns]
    return {row[1]: dict(zip(names, row, strict=True)) for row in rows}


def is_listed(row: dict[str, Any]) -> bool:
    """As the view `conflicting_usages` decides it."""
    has_several = row["first_sender"] != row["last_sender"] or row["occurred_at"] != row["last_occurred_at"]
    return bool(has_several or row["has_disagreement"])


@given(st.lists(USAGES, min_size=1, max_size=6), st.data())
def test_usages_of_one_id_are_one_entry_in_any_order_and_a_conflict_unless_they_are_the_same(
    usages: list[Usage], data: st.DataObject
) -> None:
    again = data.draw(st.permutations([*usages, *data.draw(st.lists(st.sampled_from(usages)))]))
    parts = data.draw(st.lists(st.integers(0, 3), min_size=len(again), max_size=len(again)))
    pairs = sorted(zip(parts, again, strict=True), key=lambda pair: pair[0])
    found = entries([[one for _, one in group] for _, group in groupby(pairs, key=lambda pair: pair[0])])
    assert found == entries([usages])
    for entry, row in found.items():
        said = [one for one in usages if one.entry == entry]
        assert is_listed(row) is (len({one.content for one in said}) > 1)
        last = max(said, key=lambda one: (one.day, one.message))
        ties = [one for one in said if (one.day, one.message) == (last.day, last.message)]
        assert -row["credits"] in {one.credits for one in ties}, "the entry shows the latest"
        assert row["customer_id"] in {one.customer for one in ties}
