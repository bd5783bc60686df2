"""An id is found as its provider shows it, as the index holds it, and as a URL of the console spells it."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event_ids import MAX_SEPARATORS, decoded_key, spellings
from schemas.providers.base import event_id

WAMID = "wamid.HBgLMzQ2MDAxMTEyMjIVAgARGBIzQTRBBUGS=="
SHOWN = {
    "stripe": ("evt_1QzT4bLkdIwHu7ixkVJ9eYtM",),
    "a message of whatsapp": (WAMID,),
    "a status of whatsapp": (WAMID, "delivered"),
    "a status in a group": (WAMID, "read", "+34 600 111 222"),
    "twilio": ("SM0123456789abcdef", "delivered"),
    "aircall": ("call.tagged", "812", "1760000000"),
    "hubspot": ("62515", "", "1246965>81", "3816279340", "1462216307945", "name/é"),
    "retell": ("call_ended", "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6"),
    "telnyx": ("0ccc7b54-4df3-4bca-a65a-3da1ecc777f0",),
    "standardwebhooks": ("msg:ü 1/2+3%3D",),
    "sendgrid": ("14c5d75ce93.dfd.64b469.filter0001==", "bounce", "1513299569"),
    "google_calendar": ("01234567-89ab:cdef", "10"),
    "one that is bounded": ("x/" * 300, "sent"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_every_provider_s_id_is_found_as_people_have_it(name: str) -> None:
    stored = event_id(*SHOWN[name])
    raw = ":".join(SHOWN[name])
    for text in (stored, raw, f" {raw}\n", stored.replace("%3D", "%3d"), quote(stored, safe=""), quote(raw, safe="")):
        assert stored in spellings(text), text


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4))
def test_whatever_the_parts_are_their_id_is_among_what_is_looked_for(parts: list[str]) -> None:
    stored, raw = event_id(*parts), ":".join(parts)
    assert stored in spellings(stored)
    if raw.count(":") <= MAX_SEPARATORS:
        assert stored in spellings(raw)
    assert all("\0" not in spelling for spelling in spellings(quote(raw)))


@pytest.mark.parametrize("text", ["evt_1", "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0", "SMcase29", "wamid.HBgLMzQ2_~"])
def test_nothing_else_is_looked_for_where_nothing_is_to_be_escaped(text: str) -> None:
    assert spellings(text) == (text,)


def test_many_colons_are_all_separators_or_none() -> None:
    text = ":".join(["="] * 40)
    assert len(spellings(text)) < 5
    assert {event_id(text), event_id(*text.split(":"))} < set(spellings(text))


def test_a_key_is_read_once_more_only_where_something_in_it_is_escaped() -> None:
    assert decoded_key(("whatsapp", WAMID)) is None
    assert decoded_key(("whatsapp", event_id(WAMID))) == ("whatsapp", WAMID)
    assert decoded_key(("whatsapp", "a%00")) is None
