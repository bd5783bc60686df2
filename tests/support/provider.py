"""A provider's side: posts webhooks, many at once, and sends again what got no 2xx."""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from tests.support.story import Webhook
from tests.support.waiting import WAIT_SECONDS, limit


@dataclass
class Deliveries:
    """What was answered. `lost` would be deliveries that never got a 2xx."""

    statuses: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    retries: int = 0


class Provider:
    """Sends to one ingress. The URL that it signs is the one that it calls."""

    def __init__(self, url: str, concurrency: int = 32) -> None:
        self._url = url
        self._slots = asyncio.Semaphore(concurrency)
        self.done = Deliveries()

    async def deliver_all(self, webhooks: list[Webhook]) -> Deliveries:
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for webhook in webhooks:
                group.create_task(self._deliver(session, webhook))
        return self.done

    async def _deliver(self, session: aiohttp.ClientSession, webhook: Webhook) -> None:
        """Until a 2xx, each attempt signed afresh, as providers do."""
        async with self._slots, limit("a 2xx for a delivery"):
            while True:
                status = await self.post(session, webhook, int(time.time()))
                if 200 <= status < 300:
                    self.done.accepted += 1
                    return
                assert status in (0, 503), f"a genuine delivery was answered {status}"
                self.done.retries += 1
                await asyncio.sleep(0.2 + random.random() / 4)

    async def post(self, session: aiohttp.ClientSession, webhook: Webhook, now: int, body: bytes | None = None) -> int:
        """One attempt; 0 where there was no answer. `body` is sent in place of what was signed."""
        url = self._url + webhook.path
        headers = webhook.sign(url, webhook.body, now)
        try:
            async with session.post(url, data=webhook.body if body is None else body, headers=headers) as response:
                text = await response.text()
                name = "twiml" if "xml" in response.content_type else str(json.loads(text)["status"])
                self.done.statuses[name] += 1
                assert response.status != 200 or text
                return response.status
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return 0
