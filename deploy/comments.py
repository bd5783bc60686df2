"""Gives tables, views and their columns the comments that `schemas.comments` declares. Must not change anything else.

A view keeps them when a flip points it at another generation.
"""

from typing import Final, LiteralString

from replay.ports import Connection
from schemas.comments import comments_of

_COMMENTABLE: Final[LiteralString] = """
    SELECT c.relname::text AS relation, c.relkind = 'v' AS is_view, NULL AS name,
           obj_description(c.oid, 'pg_class') AS text
    FROM pg_class AS c WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'v')
    UNION ALL
    SELECT c.relname::text, c.relkind = 'v', a.attname::text, col_description(c.oid, a.attnum)
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'v')
"""


async def give_comments(connection: Connection, schema: str) -> None:
    """To what a schema has of ours: `public`, `redrive`, or a generation's. Those that are there already stay."""
    declared = comments_of(schema)
    statements: list[str] = []
    for row in await connection.fetch(_COMMENTABLE, schema):
        one = declared.get(row["relation"])
        if one is None:
            continue
        text = one.text if row["name"] is None else one.columns.get(row["name"])
        if text is None or text == row["text"]:
            continue
        at, kind = f'{schema}."{row["relation"]}"', "VIEW" if row["is_view"] else "TABLE"
        if row["name"] is not None:
            at, kind = f'{at}."{row["name"]}"', "COLUMN"
        # Only from our own declarations; a comment takes no parameters.
        quoted = text.replace("'", "''")
        statements.append(f"COMMENT ON {kind} {at} IS '{quoted}'")
    if statements:
        await connection.execute(";\n".join(statements))
