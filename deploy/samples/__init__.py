"""Signed sample deliveries, for `redrive send` and the first traffic of `redrive up`. Every sample has new ids.

A module per provider; its `samples(customer)` is one whole story of one customer.
"""

from collections.abc import Callable, Iterator
from typing import Final

from deploy.samples import (
    aircall,
    google_calendar,
    hubspot,
    retell,
    sendgrid,
    standardwebhooks,
    stripe,
    telnyx,
    twilio,
    whatsapp,
)
from deploy.samples.base import Sample, token
from schemas.errors import InvalidSelection
from schemas.settings import Source

__all__ = ["SAMPLES", "Sample", "new_customer", "samples", "story", "story_length"]


def new_customer() -> str:
    return f"cus_{token()}"


SAMPLES: Final[dict[str, Callable[[str], Iterator[Sample]]]] = {
    "stripe": stripe.samples,
    "whatsapp": whatsapp.samples,
    "twilio": twilio.samples,
    "aircall": aircall.samples,
    "hubspot": hubspot.samples,
    "retell": retell.samples,
    "telnyx": telnyx.samples,
    "standardwebhooks": standardwebhooks.samples,
    "sendgrid": sendgrid.samples,
    "google_calendar": google_calendar.samples,
}


def samples(source: Source, count: int) -> Iterator[Sample]:
    """`count` samples of the source's provider, story after story, each of a new customer."""
    made = 0
    while made < count:
        for sample in story(source, new_customer()):
            if made == count:
                return
            made += 1
            yield sample


def story(source: Source, customer: str) -> Iterator[Sample]:
    """One whole story of one customer. Raises `InvalidSelection` for a provider without one: a plug-in's."""
    name = source.provider.name
    if name not in SAMPLES:
        raise InvalidSelection(f"there are no samples of provider {name!r}, which source {source.name!r} is of")
    return SAMPLES[name](customer)


def story_length(source: Source) -> int:
    return sum(1 for _ in story(source, new_customer()))
