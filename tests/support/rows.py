"""The facts of a record, as rows that a test can read."""

from typing import Any

from processors.fold import fold_record
from tests.support.records import FakeRecord


def rows_of(one: FakeRecord) -> list[tuple[str, dict[str, Any]]]:
    """(table, columns that are known) of every fact."""
    folded = fold_record(one)
    assert not folded.letters, folded
    return [
        (
            table.name,
            {
                column.name: value
                for column, value in zip(table.columns, row, strict=True)
                if not column.is_hidden and value is not None
            },
        )
        for table, row in folded.rows
    ]
