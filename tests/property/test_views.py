"""Every view can be read over every row that the tables can hold: one that raises takes its rows from everybody."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.roles import public_views
from schemas import table_sql
from schemas.facts import TABLES
from schemas.lattice import Column, Table
from tests.support.amounts import amount
from tests.support.tables import empty

NAMES = ("pi_1", "pi_2")
"""Few, so that the rows of several tables meet."""

WORDS = (
    "purchase",
    "usage",
    "credit_purchase",
    "succeeded",
    "failed",
    "lost",
    "canceled",
    "unpaid",
    "telnyx",
    "inbound",
    "",
)
BIGINTS = (0, 1, -1, 3, 10**15, 2**63 - 1, -(2**63))
EXTREMES: dict[type, tuple[Any, ...]] = {
    str: (*NAMES, *WORDS, "a\nb", "x" * 3000),
    int: BIGINTS,
    bool: (True, False),
    datetime: (
        "-infinity",
        "infinity",
        "4713-01-01 BC",
        "294276-12-31",
        "0001-01-01",
        "9999-12-31",
        "1970-01-01",
        "now",
    ),
    Decimal: ("0", "999999999.999", "-999999999.999", "NaN"),
    bytes: ("",),
}


def cell(table: Table[Any], column: Column) -> st.SearchStrategy[Any]:
    """As text for Postgres to read."""
    if column.name in table.keys:
        return st.sampled_from(NAMES) if column.name != "source" else st.just("s")
    values = st.sampled_from([str(value) for value in EXTREMES[column.type]])
    return values if column.name == "has_disagreement" or column.type is bytes else st.none() | values


def rows() -> Iterator[st.SearchStrategy[Any]]:
    for table in TABLES:
        cells = st.tuples(*(cell(table, column) for column in table.columns))
        yield st.tuples(st.just(table), st.lists(cells, max_size=4))


@settings(max_examples=amount(40, 400))
@given(stored=st.tuples(*rows()))
async def test_every_view_can_be_read_over_every_storable_row(stored: Any, shared_connection: Any) -> None:
    await empty(shared_connection)
    for table, found in stored:
        for row in found:
            values = ", ".join(
                f"${n}::text::{table_sql._SQL_TYPES[column.type]}" for n, column in enumerate(table.columns, 1)
            )
            into = f"INSERT INTO gen_1.{table.name} ({table.names}) VALUES ({values}) ON CONFLICT DO NOTHING"
            await shared_connection.execute(into, *row)
    for view in public_views():
        await shared_connection.execute(f"SELECT * FROM public.{view}")
