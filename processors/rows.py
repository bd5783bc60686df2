"""Facts to rows that Postgres takes. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from schemas.errors import PoisonRecord
from schemas.facts import TABLE_OF
from schemas.lattice import Fact, Row, Table
from schemas.masking import describe
from schemas.text import storable

TableRow = tuple[Table[Any], Row]

_DURATION_END: Final = 10**9
"""Durations are numeric(12, 3)."""


STATEMENT_SIZE: Final = 16 * 2**20
"""Postgres takes no message of 1 GiB or more, and closes the connection; the driver holds a copy of each."""


MAX_ROWS_SIZE: Final = 32 * 2**20
ROWS_PER_BODY: Final = 32
"""Three times what the shortest events of any provider come to, of which each has all its rows."""

ROWS_OF_ANY_BODY: Final = 64 * 2**10


def size_of(row: Row) -> int:
    """Characters and bytes of its texts."""
    return sum([len(value) for value in row if type(value) is str or type(value) is bytes])


def largest_of(body: bytes) -> int:
    """The limit of the rows of a record. A text that a body holds once may be in every row of its events: without a
    limit a few megabytes would become gigabytes.
    """
    return min(MAX_ROWS_SIZE, ROWS_OF_ANY_BODY + ROWS_PER_BODY * len(body))


def rows_within(facts: Sequence[Fact], most: int) -> tuple[tuple[TableRow, ...], int]:
    """The rows of one event, and their size. Raises `PoisonRecord`, also where they come to more than `most`."""
    rows, size = [], 0
    for fact in facts:
        found = row_of(fact)
        size += size_of(found[1])
        if size > most:
            raise PoisonRecord("invalid_payload", f"{found[0].name}: {TOO_LARGE}")
        rows.append(found)
    return tuple(rows), size


TOO_LARGE: Final = (
    f"the body repeats itself in its rows: they come to more than {ROWS_PER_BODY} times its size, or to more than"
    f" {MAX_ROWS_SIZE // 2**20} MiB"
)


def storable_fact(fact: Fact) -> Fact:
    """For a fact of a payload that holds U+0000 somewhere."""
    texts = {name: value for name in fact.__dataclass_fields__ if isinstance(value := getattr(fact, name), str)}
    changed: dict[str, Any] = {name: storable(text) for name, text in texts.items()}
    return replace(fact, version=fact.version._replace(id=storable(fact.version.id)), **changed)


def row_of(fact: Fact) -> TableRow:
    """Raises `PoisonRecord` for what no column holds: a number without canonical JSON is as bad as a wrong type."""
    table = TABLE_OF[type(fact)]
    try:
        return table, table.row(fact)
    except (TypeError, ValueError, OverflowError) as error:
        values = [(name, getattr(fact, name)) for name in fact.__dataclass_fields__]
        raise PoisonRecord("invalid_payload", _unfit(table, values) or f"{table.name}.{error}") from error
    except Exception as error:
        # A plug-in's version may be none: its event is dead, and the others of the record are not.
        raise PoisonRecord("invalid_payload", f"{table.name}: {describe(error)}") from error


def unfit(rows: Iterable[TableRow]) -> str | None:
    """Which column of rows that Postgres refused can't hold its number."""
    for table, row in rows:
        found = _unfit(table, zip([column.name for column in table.columns], row, strict=True))
        if found is not None:
            return found
    return None


def _unfit(table: Table[Any], values: Iterable[tuple[str, Any]]) -> str | None:
    for name, value in values:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return f"{table.name}.{name}: beyond 64 bits"
        if isinstance(value, Decimal) and not (value.is_finite() and abs(value) < _DURATION_END):
            return f"{table.name}.{name}: not below {_DURATION_END}"
    return None


def portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """In their order: two writers lock in the same one."""
    first, size = 0, 0
    for number, row in enumerate(rows):
        more = size_of(row)
        if number > first and size + more > STATEMENT_SIZE:
            yield rows[first:number]
            first, size = number, 0
        size += more
    yield rows[first:]
