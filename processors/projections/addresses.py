"""Addresses of people: which are phone numbers, and how those are written. Pure.

An address is a phone number only where its channel says so. A number becomes E.164 where its spelling leaves no doubt;
every other address stays as it came, so that two people never share one.
"""

import re
from typing import Final

import phonenumbers

from schemas.facts import CHANNELS
from schemas.short_cache import cache_short

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_WHATSAPP_ID: Final = re.compile(r"[1-9][0-9]{6,14}")
_MEXICAN_MOBILE: Final = re.compile(r"\+521[0-9]{10}")
"""Until 2019 mobile numbers of Mexico had a 1 before them. The plan has dropped it; ids of WhatsApp keep it."""

_SPELLING: Final = re.compile(r"\+?[0-9(][0-9 ().\u00a0\u202f\u2011-]*")
"""Digits with the usual separators. Anything else (letters, `#`, `x`, `;`) may tell two people apart: an extension."""

_NUMBERED_CHANNELS: Final = frozenset({"whatsapp", "rcs"})
"""Twilio's schemes before a phone number. The text after any other scheme is an id of that channel."""


def phone_number(address: str | None) -> str | None:
    """An address of a channel that knows phone numbers and other things beside: SMS, voice.

    `+33612345678`, `+33 6 12 34 56 78`, `+33 (0)6 12 34 56 78`, `0033612345678` and `+0033612345678` are one number.
    A short code, a national number, an alphanumeric sender, `sip:zoe@example.com` and `anonymous` stay as they came.
    """
    if not address:
        return None
    return address if _E164.fullmatch(address) else _spelled_out(address)


def whatsapp_number(address: str | None) -> str | None:
    """WhatsApp writes a phone number as its international digits. A user's id, a group's, a short code: no numbers."""
    if not address:
        return None
    if _WHATSAPP_ID.fullmatch(address):
        return "+" + address
    return phone_number(address)


def channel_address(address: str | None) -> tuple[str | None, str | None]:
    """(channel, address) of `rcs:+33612345678`, Twilio's form of addresses that are neither SMS nor voice.

    The channel is None for an address without a scheme, and for a scheme that is not of our channels. An id keeps its
    scheme: `messenger:998877665544` is not the number +998877665544.
    """
    scheme, colon, rest = (address or "").partition(":")
    if not colon:
        return None, phone_number(address)
    channel = scheme.lower()
    if channel in _NUMBERED_CHANNELS:
        number = whatsapp_number(rest) if channel == "whatsapp" else phone_number(rest)
        return channel, number if number and _E164.fullmatch(number) else address
    return channel if channel in CHANNELS else None, address


@cache_short(entries=4096, characters=64)
def _spelled_out(address: str) -> str:
    return (_by_the_plan(address) if _SPELLING.fullmatch(address) else None) or address


def _by_the_plan(address: str) -> str | None:
    """The number that the plan of its country has for a spelling: a national zero counts in some, and not in others.

    00 is the international prefix of many countries and not of all: 001 133… may be a call to +33 from one, so a number
    that no plan has is left alone. With `+` before it, it is a number all the same where it is as long as one and has
    no digits but its own: those of tests and samples are in no plan.
    """
    international = re.sub(r"\A\+?00", "+", address)
    if not international.startswith("+"):
        return None
    digits = "+" + re.sub("[^0-9]", "", international)
    if _MEXICAN_MOBILE.fullmatch(digits):
        return digits
    try:
        parsed = phonenumbers.parse(international)
    except phonenumbers.NumberParseException:
        return None
    number = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if phonenumbers.is_valid_number(parsed):
        return number
    is_plain = address == international and "(" not in address
    is_its_digits = number == "+" + re.sub("[^0-9]", "", address)
    return number if is_plain and is_its_digits and phonenumbers.is_possible_number(parsed) else None
