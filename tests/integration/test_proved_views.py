"""What people read are views: one that is not the one that redrive makes is named by a proof, and a fault of `check`."""

from collections.abc import Iterator
from typing import Any

import pytest

from deploy import migrate, roles
from deploy.view_check import other_views
from replay.prove.certificate import Difference
from replay.prove.views import Configured, compare_views
from replay.tables.read_models import NOTHING_DECLARED, Declared
from schemas import facts
from schemas.errors import Misconfigured
from schemas.lattice import Table
from tests.conftest import Stack
from tests.support.proving import Prove
from tests.support.rebuilds import apply, rebuild, rebuilding
from tests.support.registries import put_back_afterwards
from tests.support.workshop import Contact

POOR = """
    CREATE OR REPLACE VIEW public.accounts AS
    SELECT source, customer_id, is_frozen, frozen_reason, frozen_at, subscription_id, subscription_status,
           subscription_tier, current_period_end, 0::bigint AS credit_balance
    FROM ({}) AS told
"""
"""Balance 0 for everyone."""

DECLARED = Declared(
    views="""
    -- CREATE VIEW :views.given_up AS SELECT 1;
    CREATE OR REPLACE VIEW :views.Large AS SELECT payment_intent_id FROM :views.payments WHERE amount > 1000;
    create or replace view :views.larger (id) as select payment_intent_id from :views.large;
    COMMENT ON VIEW :views.large IS 'of ours';
    DROP VIEW IF EXISTS :views.no_more;
    """
)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with put_back_afterwards():
        yield


async def text_of(connection: Any, view: str) -> str:
    return str(await connection.fetchval("SELECT pg_get_viewdef($1::text::regclass)", f"public.{view}")).rstrip(";")


async def others(connection: Any, declared: Declared = NOTHING_DECLARED) -> dict[str, list[str]]:
    """View -> its columns that differ."""
    compared, found = await compare_views(connection, declared)
    assert len(compared) == len(set(compared))
    return {one.name: one.columns for one in found}


async def test_a_view_that_shows_other_rows_is_a_difference_and_a_fault_that_a_migration_mends(
    folded: str, prove: Prove, connection: Any, database_url: str
) -> None:
    await connection.execute(POOR.format(await text_of(connection, "accounts")))
    made = await prove()
    assert made.verdict == "different"
    assert made.differences == [Difference(table="accounts", key={}, columns=[], kind="definition")]
    warnings, (fault,) = await other_views(connection, Configured())
    assert warnings == []
    assert fault == "the view public.accounts is not the one that redrive makes: run `redrive migrate --apply`"

    await migrate.migrate(connection, database_url)
    assert await other_views(connection, Configured()) == ([], [])
    made = await prove()
    assert (made.verdict, made.differences) == ("equal", [])
    assert made.views == roles.public_views()


MORE_COLUMNS = """
    DROP VIEW public.refunds;
    CREATE VIEW public.refunds AS
    SELECT source, refund_id, payment_intent_id, charge_id, status, amount, currency, failure_reason, occurred_at, 1 AS more
    FROM gen_1.refunds
"""
CHANGES = [
    ("DROP VIEW public.contact_preferences", {"contact_preferences": []}, "is missing"),
    (
        "ALTER VIEW public.invoices RENAME COLUMN amount_due TO due",
        {"invoices": ["due", "amount_due"]},
        "has other columns",
    ),
    (MORE_COLUMNS, {"refunds": ["more"]}, "has other columns"),
    (
        "DROP VIEW public.refunds; CREATE TABLE public.refunds AS SELECT source, refund_id FROM gen_1.refunds",
        {"refunds": []},
        "is not a view",
    ),
    (
        "CREATE OR REPLACE VIEW public.webhook_events AS SELECT * FROM ({webhook_events}) AS told WHERE status <> 'dead'",
        {"webhook_events": []},
        "is not the one",
    ),
    (
        "CREATE OR REPLACE VIEW public.contact_preferences AS SELECT source, our_number, peer_number, category, value,"
        " value = 'gen_1.stop' AS is_opted_out, changed_at FROM gen_1.contact_preferences",
        {"contact_preferences": []},
        "is not the one",
    ),
    (
        "CREATE TABLE mine AS SELECT * FROM gen_1.contact_preferences;"
        " CREATE OR REPLACE VIEW public.contact_preferences AS SELECT source, our_number, peer_number, category, value,"
        " value = 'stop' AS is_opted_out, changed_at FROM mine AS contact_preferences",
        {"contact_preferences": []},
        "is not the one",
    ),
]


@pytest.mark.parametrize(("statement", "expected", "said"), CHANGES)
async def test_whatever_stands_in_the_place_of_a_view_is_named(
    connection: Any, statement: str, expected: dict[str, list[str]], said: str
) -> None:
    if "{" in statement:
        statement = statement.format(webhook_events=await text_of(connection, "webhook_events"))
    await connection.execute(statement)
    assert await others(connection) == expected
    _, (fault,) = await other_views(connection, Configured())
    assert said in fault


async def test_a_view_that_reads_another_generation_is_named(
    stack: Stack, folded: str, connection: Any, database_url: str, prove: Prove
) -> None:
    """A flip moves all of them: that is no difference, and one that stays behind is."""
    behind = await text_of(connection, "contact_preferences")
    async with rebuilding(stack, database_url) as ports:
        await apply(ports, (await rebuild(ports)).number)
    made = await prove()
    assert (made.generation, made.verdict) == (2, "equal")
    await connection.execute(f"CREATE OR REPLACE VIEW public.contact_preferences AS {behind}")
    assert await others(connection) == {"contact_preferences": []}


async def test_views_that_users_declared_and_those_of_plug_ins_are_compared_too(
    connection: Any, database_url: str
) -> None:
    facts.register(Table("contacts", Contact))
    await migrate.migrate(connection, database_url, DECLARED)
    compared, found = await compare_views(connection, DECLARED)
    assert ({"contacts", "large", "larger"} <= set(compared), "given_up" in compared, found) == (True, False, [])

    await connection.execute("CREATE OR REPLACE VIEW public.large AS SELECT payment_intent_id FROM public.payments")
    await connection.execute(
        "CREATE OR REPLACE VIEW public.contacts AS SELECT * FROM (SELECT source, contact_id,"
        " 'x' COLLATE \"C\" AS name, created_at FROM gen_1.contacts) AS told"
    )
    assert await others(connection, DECLARED) == {"contacts": [], "large": []}
    await migrate.migrate(connection, database_url, DECLARED)
    assert await others(connection, DECLARED) == {}
    await connection.execute("DROP VIEW public.larger")
    assert await others(connection, DECLARED) == {"larger": []}
    assert await connection.fetchval("SELECT obj_description('public.large'::regclass)") == "of ours"


async def test_a_view_as_a_dump_restores_it_is_the_same(connection: Any) -> None:
    """A dump holds the text that Postgres makes of a view, and a restore parses that."""
    for view in roles.public_views():
        await connection.execute(f"CREATE OR REPLACE VIEW public.{view} AS {await text_of(connection, view)}")
    assert await others(connection) == {}


async def test_comparing_leaves_nothing_and_asks_for_no_more_than_a_console_has(connection: Any) -> None:
    await roles.create(connection)
    await roles.grant(connection)
    before = await connection.fetch("SELECT oid, relname FROM pg_class ORDER BY 1")
    await connection.execute("SET ROLE redrive_console")
    assert await others(connection, DECLARED) == {"large": [], "larger": []}, "they were never made"
    assert await connection.fetch("SELECT oid, relname FROM pg_class ORDER BY 1") == before
    await connection.execute("SET ROLE redrive_dashboard")
    (warning,), faults = await other_views(connection, Configured())
    assert ("may not compare the views" in warning, faults) == (True, [])
    await connection.execute("RESET ROLE")


async def test_price_tiers_that_are_not_those_of_the_configuration_are_named(
    folded: str, prove: Prove, connection: Any
) -> None:
    await migrate.store_price_tiers(connection, {"price_1": "pro", "price_2": "basic", "price_3": "gold"})
    configured = Configured(price_tiers={"price_1": "pro", "price_2": "pro", "price_4": "gold"})
    made = await prove(configured=configured)
    assert made.verdict == "different"
    assert [(one.table, one.key, one.kind) for one in made.differences] == [
        ("price_tiers", {"price_id": "price_2"}, "changed"),
        ("price_tiers", {"price_id": "price_3"}, "unexpected"),
        ("price_tiers", {"price_id": "price_4"}, "missing"),
    ]
    _, (fault,) = await other_views(connection, configured)
    assert "(price_2, price_3, price_4): run `redrive migrate --apply`" in fault
    await migrate.store_price_tiers(connection, dict(configured.price_tiers))
    assert (await prove(configured=configured)).verdict == "equal"


async def test_a_view_in_the_way_of_a_migration_is_named(connection: Any, database_url: str) -> None:
    await connection.execute(MORE_COLUMNS)
    with pytest.raises(Misconfigured, match=r"cannot drop columns from view.*drop what it names"):
        await migrate.migrate(connection, database_url)
