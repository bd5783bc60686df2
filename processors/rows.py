"""Facts to rows that Postgres takes. Pure."""

from collections.abc import Iterable
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
