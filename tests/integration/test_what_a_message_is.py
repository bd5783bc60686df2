"""Invariants 5 and 9 on inputs that were once got wrong: what is a message, whose it is, and what is said of another one.

Every case goes the way of the product: verified, identified, folded, stored, and read from the views.
"""

from itertools import permutations
from typing import Any, TypeAlias

import asyncpg
import pytest

from tests.support.cases import NOW, fold_webhooks, webhooks_of
from tests.support.story.base import at
from tests.support.tables import empty, read_view

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
View = dict[tuple[str, ...], dict[str, Any]]
OURS, THEIRS = "+15550100100", "+34600111222"


async def fold(connection: Connection, case: str, order: tuple[int, ...] | None = None) -> None:
    webhooks = webhooks_of(case)
    await empty(connection)
    assert await fold_webhooks(connection, [webhooks[n] for n in order] if order else webhooks) == []


async def events(connection: Connection) -> list[tuple[str, str, str, int]]:
    rows = await connection.fetch("SELECT event_id, type, status, conflicts FROM webhook_events ORDER BY event_id")
    return [tuple(row) for row in rows]


async def test_a_message_of_twilio_conversations_is_none_of_ours(shared_connection: Connection) -> None:
    await fold(shared_connection, "09")
    found = await events(shared_connection)
    assert [(kind, status, conflicts) for _, kind, status, conflicts in found] == [("twilio.other", "ignored", 0)] * 3
    assert await read_view(shared_connection, "messages") == {}


async def test_a_page_scoped_id_is_no_phone_number_and_rcs_is_no_sms(shared_connection: Connection) -> None:
    await fold(shared_connection, "10")
    messages = await read_view(shared_connection, "messages")
    assert {key[1]: (row["channel"], row["sender"], row["recipient"]) for key, row in messages.items()} == {
        "SMcase10a": ("messenger", "messenger:998877665544", "messenger:15550100177"),
        "SMcase10b": ("sms", "+998877665544", "+15550100177"),
        "SMcase10c": ("rcs", "+34600111222", "rcs:acme_agent"),
    }
    conversations = await read_view(shared_connection, "conversations")
    assert [row["inbound"] for row in conversations.values()] == [1, 1, 1], "each person has one of their own"


async def test_each_participant_of_a_group_has_an_event(shared_connection: Connection) -> None:
    await fold(shared_connection, "12")
    assert await events(shared_connection) == [
        (f"wamid.CASE12:delivered:3460000000{n}", "whatsapp.status.delivered", "applied", 0) for n in (1, 2)
    ]
    ((_, message),) = (await read_view(shared_connection, "messages")).items()
    assert (message["status"], message["peer_number"]) == ("delivered", "Y2FwaV9ncm91cDpjYXNl")


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_an_edit_and_a_revoke_change_their_message_in_any_order(
    shared_connection: Connection, order: tuple[int, ...]
) -> None:
    await fold(shared_connection, "13", order)
    messages = await read_view(shared_connection, "messages")
    assert messages.keys() == {("whatsapp", "wamid.CASE13")}
    message = messages["whatsapp", "wamid.CASE13"]
    assert (message["body"], message["kind"], message["direction"]) == ("Mesa para 4", "text", "inbound")
    assert (message["edited_at"], message["revoked_at"]) == (at(NOW), at(NOW))
    conversations = await read_view(shared_connection, "conversations")
    assert conversations["whatsapp", "whatsapp", OURS, THEIRS]["inbound"] == 1


async def test_what_is_said_of_a_message_that_never_came_counts_nowhere(shared_connection: Connection) -> None:
    await empty(shared_connection)
    assert await fold_webhooks(shared_connection, webhooks_of("13")[1:]) == []
    ((_, message),) = (await read_view(shared_connection, "messages")).items()
    assert (message["body"], message["revoked_at"], message["direction"]) == ("Mesa para 4", at(NOW), None)
    assert await read_view(shared_connection, "conversations") == {}


async def test_an_order_and_a_flow_have_their_text(shared_connection: Connection) -> None:
    await fold(shared_connection, "15")
    messages = await read_view(shared_connection, "messages")
    assert {key[1]: row["body"] for key, row in messages.items()} == {
        "wamid.CASE15a": "Dos de cada, por favor",
        "wamid.CASE15b": '{"date":"2026-12-01"}',
    }


async def test_a_call_over_whatsapp_and_an_opt_out_have_rows(shared_connection: Connection) -> None:
    await fold(shared_connection, "16")
    ((key, call),) = (await read_view(shared_connection, "calls")).items()
    assert key == ("whatsapp", "wacid.CASE16")
    assert (call["status"], call["direction"], call["duration_seconds"]) == ("completed", "inbound", 70)
    assert (call["caller"], call["callee"], call["talk_seconds"]) == (THEIRS, OURS, 70)
    ((key, preference),) = (await read_view(shared_connection, "contact_preferences")).items()
    assert key == ("whatsapp", OURS, THEIRS, "marketing_messages")
    assert (preference["is_opted_out"], preference["changed_at"]) == (True, at(NOW))
    assert [status for _, _, status, _ in await events(shared_connection)] == ["applied", "applied"]


async def test_a_type_of_hubspot_is_one_by_its_name_and_by_its_id(shared_connection: Connection) -> None:
    await fold(shared_connection, "23")
    objects = await read_view(shared_connection, "crm_objects")
    assert objects == {
        ("hubspot", "424242", "ticket", "9001"): {
            "source": "hubspot",
            "portal_id": "424242",
            "object_type": "ticket",
            "object_id": "9001",
            "exists": True,
            "properties": {"hs_pipeline_stage": "2"},
            "properties_left_out": 0,
        }
    }
