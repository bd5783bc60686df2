"""An installation with one source, and deliveries to it."""

import asyncio
import json
import time

import aiohttp

from tests.support import signing
from tests.support.processes import Installation
from tests.support.story import Author, Webhook, World, stripe
from tests.support.waiting import limit

TOML = """
[sources.stripe]
provider = "stripe"
secrets = ["${STRIPE_SECRET_NOW}"]
"""


def stripe_world(author: Author, deliveries: int) -> World:
    """At least so many deliveries of Stripe, and nothing else."""
    while len(author.world.webhooks) < deliveries:
        stripe.tell(author)
    return author.world


def set_secret(installation: Installation, secret: str) -> None:
    (installation.folder / ".env").write_text(f"STRIPE_SECRET_NOW={secret}\n")


async def post_all(url: str, webhooks: list[Webhook], secret: str | None = None) -> list[tuple[int, str | None]]:
    """(status, problem code) of one attempt each, all at once; `secret` in the place of the right one: a forgery."""
    now = int(time.time())
    slots = asyncio.Semaphore(32)
    async with aiohttp.ClientSession() as session:

        async def post(webhook: Webhook) -> tuple[int, str | None]:
            headers = webhook.sign(url + webhook.path, webhook.body, now)
            if secret is not None:
                headers = signing.stripe(webhook.body, now, secret)
            async with slots, session.post(url + webhook.path, data=webhook.body, headers=headers) as response:
                return response.status, json.loads(await response.text()).get("code")

        return await asyncio.gather(*(post(webhook) for webhook in webhooks))


async def until_answer(installation: Installation, webhook: Webhook, wanted: int) -> None:
    async with limit("the answer changes"):
        while (await post_all(installation.ingest_url, [webhook]))[0][0] != wanted:
            await asyncio.sleep(0.1)
