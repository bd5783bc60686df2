"""Meta sends up to a thousand updates and 3 MB at once: one record, unpacked by the projection."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka import ConsumerRecord

from processors.fold import fold_record
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import now_ms, post, run_ingress, source


async def test_a_thousand_updates_of_3_mb_are_one_record_and_a_thousand_rows(
    stack: Stack,
    topic: str,
    source_name: str,
    tmp_path: Path,
    read_topic: Callable[[str], Awaitable[list[ConsumerRecord]]],
) -> None:
    messages = [
        {
            "from": "33612345678",
            "id": f"wamid.{n}",
            "timestamp": "1750000000",
            "type": "text",
            "text": {"body": "é" * 500},
        }
        for n in range(1000)
    ]
    change = {"field": "messages", "value": {"metadata": {"display_phone_number": "15550783881"}, "messages": messages}}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}).encode()
    assert 3_000_000 < len(body) < 3_300_000
    async with run_ingress(stack, {source_name: source(source_name, "whatsapp")}, tmp_path, now_ms) as running:
        status, answer, location = await post(running, f"/webhooks/{source_name}", body, signing.whatsapp(body))
        assert (status, answer["status"]) == (200, "accepted")
        assert location
    (record,) = await read_topic(topic)
    assert record.value == body
    folded = fold_record(record)
    assert not folded.letters
    assert len(folded.events) == len(folded.rows) == 1000
