"""A made-up world of customers, payments, messages and calls, the webhooks it causes, and the tables that must result.

The expectation is written down while the world is made, from what happened in it; not a line of the product is asked.
A module per provider; its `tell` writes one story of one customer.
"""

from collections.abc import Callable
from typing import Final

from tests.support.story import aircall, google_calendar, hubspot, retell, sendgrid, stripe, telnyx, twilio, whatsapp
from tests.support.story.base import Author, Webhook, World

__all__ = ["STORIES", "Author", "Webhook", "World", "write"]

STORIES: Final[dict[str, Callable[[Author], None]]] = {
    "stripe": stripe.tell,
    "whatsapp": whatsapp.tell,
    "twilio": twilio.tell,
    "aircall": aircall.tell,
    "hubspot": hubspot.tell,
    "retell": retell.tell,
    "telnyx": telnyx.tell,
    "sendgrid": sendgrid.tell,
    "google_calendar": google_calendar.tell,
}


def write(author: Author, count: int) -> World:
    """`count` stories of every provider."""
    for tell in STORIES.values():
        for _ in range(count):
            tell(author)
    return author.world
