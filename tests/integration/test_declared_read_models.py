"""Indexes and views that users declare are in every generation before a flip; `redrive check` tries them first."""

from pathlib import Path
from typing import Any

import pytest

from deploy import generation_check, migrate
from deploy.wiring import load
from replay.tables.read_models import Declared
from schemas.errors import Misconfigured
from tests.conftest import Stack
from tests.support.rebuilds import apply, rebuild, rebuilding

DECLARED = Declared(
    "-- By amount.\nCREATE INDEX IF NOT EXISTS payments_by_amount ON :gen.payments (amount);",
    "CREATE OR REPLACE VIEW :views.large AS SELECT payment_intent_id FROM :gen.payments WHERE amount > 1000;",
)


async def test_they_are_in_every_generation_before_a_flip_and_the_views_move_with_it(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    await migrate.migrate(connection, database_url, DECLARED)

    indexes = "SELECT schemaname FROM pg_indexes WHERE indexname = 'payments_by_amount' ORDER BY 1"
    async with rebuilding(stack, database_url, declared=DECLARED) as ports:
        generation = await rebuild(ports)
        assert [row[0] for row in await connection.fetch(indexes)] == ["gen_1", "gen_2"]
        await connection.execute(
            "INSERT INTO gen_2.payments (source, payment_intent_id, amount) VALUES ('x', 'y', 2000)"
        )
        assert await connection.fetchval("SELECT count(*) FROM large") == 0
        await apply(ports, generation.number)
    assert await connection.fetchval("SELECT count(*) FROM large") == 1
    assert await generation_check.declared_by_users(connection, DECLARED) == ([], [])


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (Declared("CREATE INDEX a ON :gen.payments (amount)"), "already exists"),
        (Declared("CREATE INDEX IF NOT EXISTS a ON :gen.payments (amuont)"), "amuont"),
        (Declared("", "CREATE OR REPLACE VIEW :views.a AS SELECT FROM :gen.no_such_table"), "no_such_table"),
        (Declared("CREATE INDX"), "syntax"),
        (Declared("DROP TABLE :gen.payments CASCADE"), "it drops"),
        (Declared("DROP TABLE :gen.payments"), "depend"),
        (Declared("CREATE UNIQUE INDEX IF NOT EXISTS one ON :gen.payments (status)"), "one: a unique index"),
    ],
)
async def test_what_can_not_work_is_a_fault_and_leaves_nothing(connection: Any, declared: Declared, said: str) -> None:
    before = await connection.fetch("SELECT oid FROM pg_class ORDER BY 1")
    warnings, (fault,) = await generation_check.declared_by_users(connection, declared)
    assert (warnings, said in fault) == ([], True)
    assert await connection.fetch("SELECT oid FROM pg_class ORDER BY 1") == before


async def test_a_table_that_is_taken_away_stays(connection: Any) -> None:
    with pytest.raises(Misconfigured, match=r"it drops gen_1\.payments"):
        await migrate.create_generation(connection, 1, Declared("DROP TABLE :gen.payments CASCADE"))
    assert await connection.fetchval(
        "SELECT to_regclass('gen_1.payments') IS NOT NULL AND to_regclass('payments') IS NOT NULL"
    )


async def test_what_is_made_by_hand_and_what_is_declared_and_not_there_is_a_warning(connection: Any) -> None:
    await connection.execute("CREATE INDEX by_hand ON gen_1.payments (amount)")
    await connection.execute("CREATE SCHEMA mine; CREATE VIEW mine.own AS SELECT source FROM gen_1.payments")
    warnings, faults = await generation_check.declared_by_users(connection, DECLARED)
    assert faults == []
    lacking, index, view = warnings
    assert "generation 1 lacks payments_by_amount" in lacking
    assert "by_hand in gen_1 is not declared" in index
    assert "mine.own reads gen_1" in view


def test_a_file_that_is_not_there_is_misconfigured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redrive.toml").write_text('[read_models]\nindexes = "indexes.sql"\n')
    monkeypatch.setenv("REDRIVE_CONFIG", str(tmp_path / "redrive.toml"))
    with pytest.raises(Misconfigured, match=r"indexes\.sql can't be read"):
        load().declared()
    (tmp_path / "indexes.sql").write_text("-- none yet\n")
    assert load().declared() == Declared("-- none yet\n", "")
