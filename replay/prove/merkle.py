"""Hashes of fact tables: a canonical text of each row, hashed in Postgres, in buckets under a Merkle root.

The form is in docs/reference/certificate.md, so that anybody can compute a root again. Must not know what a table is
compared with.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from replay.ports import Connection
from schemas.lattice import Column, Table

BUCKETS: Final = 4096
"""A row's bucket is the first twelve bits of its key's hash: what is held of a table, whatever its size."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_EMPTY: Final = hashlib.sha256(_LEAF).digest()

_TEXTS: Final[dict[type, str]] = {
    str: "{0}",
    int: "{0}::text",
    bool: "{0}::text",
    # Not the timestamp's own text: that depends on the session.
    datetime: "extract(epoch FROM {0})::text",
    Decimal: "{0}::text",
    bytes: "encode({0}, 'hex')",
}


@dataclass(frozen=True, slots=True)
class TableHash:
    """The hash over all rows of a table."""

    rows: int
    leaves: Mapping[int, bytes]
    """Bucket -> its hash; without the empty ones."""

    @property
    def root(self) -> str:
        level = [self.leaves.get(bucket, _EMPTY) for bucket in range(BUCKETS)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [hashlib.sha256(_NODE + left + right).digest() for left, right in pairs]
        return level[0].hex()

    def differing(self, other: "TableHash") -> list[int]:
        """Buckets that hold other rows."""
        return [n for n in range(BUCKETS) if self.leaves.get(n) != other.leaves.get(n)]


def canonical_columns(table: Table[Any]) -> list[Column]:
    """All stored columns, hidden ones included, by name."""
    return sorted(table.columns, key=lambda column: column.name)


async def hash_table(connection: Connection, schema: str, table: Table[Any]) -> TableHash:
    """One pass over the table. Postgres sorts on its disk; here are the buckets."""
    # The parts are identifiers of our own declarations.
    rows = await connection.fetch(
        "SELECT bucket, count(*) AS rows, sha256('\\x00'::bytea || string_agg(digest, ''::bytea ORDER BY digest))"  # noqa: S608
        f" AS leaf FROM ({rows_sql(schema, table)}) AS hashed GROUP BY bucket"
    )
    return TableHash(sum(row["rows"] for row in rows), {row["bucket"]: row["leaf"] for row in rows})


def rows_sql(schema: str, table: Table[Any]) -> str:
    """SQL for each row's bucket, the hash of its key, its own hash (`digest`), and its key columns."""
    keys = ", ".join(table.keys)
    columns = canonical_columns(table)
    of_key = [column for column in columns if column.name in table.keys]
    return (
        "SELECT get_byte(key_digest, 0) * 16 + get_byte(key_digest, 1) / 16 AS bucket, key_digest, digest,"  # noqa: S608
        f" {keys} FROM (SELECT {_hash(of_key)} AS key_digest, {_hash(columns)} AS digest, {keys}"
        # Without the OFFSET each hash would be computed wherever it is named.
        f" FROM {schema}.{table.name} OFFSET 0) AS digests"
    )


def texts_sql(columns: Sequence[Column]) -> str:
    """The canonical texts of the columns, as an array; NULL where the column is."""
    return f"ARRAY[{', '.join(_text(column) for column in columns)}]"


def _hash(columns: Sequence[Column]) -> str:
    """`name=length:text;` of each, the length in bytes, and `name=-;` for NULL: no two rows have one text."""
    parts = [
        f"'{column.name}=' || coalesce(octet_length({_text(column)})::text || ':' || {_text(column)}, '-') || ';'"
        for column in columns
    ]
    return f"sha256(convert_to({' || '.join(parts)}, 'UTF8'))"


def _text(column: Column) -> str:
    return _TEXTS[column.type].format(column.name)
