"""Design §6: an address is a phone number only where its channel says so. Nobody shares an address with another person."""

import json
import re
from urllib.parse import urlencode

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.projections.addresses import channel_address, phone_number, whatsapp_number
from tests.support.records import record
from tests.support.rows import rows_of

FRENCH = "+33612345678"
SPELLINGS = (
    FRENCH,
    "+33 6 12 34 56 78",
    "+33 (0)6 12 34 56 78",
    "+33.6.12.34.56.78",
    "0033612345678",
    "+0033612345678",
    "00 33 6 12 34 56 78",
    # The national zero is no part of it.
    "+33 06 12 34 56 78",
    "+33 (06) 12 34 56 78",
)
MEXICAN = "+5215512345678"
NO_NUMBERS = (
    "68849",
    "0612345678",
    "612345678",
    "33612345678",
    # As one dials to France from Australia: nothing says where this was dialled.
    "001133612345678",
    "0015550100177",
    "ACME",
    "anonymous",
    "Restricted",
    "sip:zoe@example.com:5060",
    "sip:+33612345678@example.com",
    "client:zoe",
    "+33612345678;ext=5",
    "+33612345678 ext. 5",
    "+1-800-FLOWERS",
    "+33 6 12 34 56 78 (2)",
    "+33 6 12 34 56 78-2",
    "+1 555 010 9999-12",
    "+1 555 (010) 9999",
    "+44 (0999) 946 0000",
    "+999 6 12 34 56 78",
    "+",
    "(0)",
    "0",
    "00",
    "١٢٣٤٥٦٧٨٩",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_an_international_number_is_the_number(spelling: str) -> None:
    assert phone_number(spelling) == whatsapp_number(spelling) == FRENCH


@pytest.mark.parametrize(
    ("spelling", "number"),
    [
        ("+44 (0207) 946 0000", "+442079460000"),
        ("+44 (020) 7946 0000", "+442079460000"),
        ("+44 020 7946 0000", "+442079460000"),
        ("+1 (212) 555-0100", "+12125550100"),
        # In Italy the zero is a part of the number.
        ("+39 06 6982 0000", "+390669820000"),
        # Nobody has these, and their spelling leaves no doubt: numbers of tests and samples.
        ("+1 555 010 0177", "+15550100177"),
        ("+1 555-078-3881", "+15550783881"),
    ],
)
def test_a_spelling_is_read_by_the_plan_of_its_country(spelling: str, number: str) -> None:
    assert phone_number(spelling) == number


@pytest.mark.parametrize("address", NO_NUMBERS)
def test_what_may_be_no_international_number_stays_as_it_came(address: str) -> None:
    assert phone_number(address) == address


@pytest.mark.parametrize("address", ["", None])
def test_no_address_is_none(address: str | None) -> None:
    assert phone_number(address) is None
    assert whatsapp_number(address) is None
    assert channel_address(address) == (None, None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("33612345678", FRENCH),
        ("15550783881", "+15550783881"),
        ("US.13491208655302741918", "US.13491208655302741918"),
        ("Y2FwaV9ncm91cDpjYXNl", "Y2FwaV9ncm91cDpjYXNl"),
        ("120363041234567890@g.us", "120363041234567890@g.us"),
        ("120363041234567890", "120363041234567890"),
        ("68849", "68849"),
        ("1", "1"),
        ("123456", "123456"),
        ("2471234", "+2471234"),
    ],
)
def test_whatsapp_writes_a_number_as_its_digits_and_other_ids_are_no_numbers(address: str, expected: str) -> None:
    assert whatsapp_number(address) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("whatsapp:+33612345678", ("whatsapp", FRENCH)),
        ("whatsapp:US.13491208655302741918", ("whatsapp", "whatsapp:US.13491208655302741918")),
        ("rcs:+33612345678", ("rcs", FRENCH)),
        ("rcs:acme_agent", ("rcs", "rcs:acme_agent")),
        ("whatsapp:+33612345678;ext=5", ("whatsapp", "whatsapp:+33612345678;ext=5")),
        ("messenger:998877665544", ("messenger", "messenger:998877665544")),
        ("line:U1234", (None, "line:U1234")),
        ("+33612345678", (None, FRENCH)),
        ("68849", (None, "68849")),
    ],
)
def test_a_scheme_names_the_channel_and_stays_before_an_id(address: str, expected: tuple[str | None, str]) -> None:
    assert channel_address(address) == expected


DIGITS = st.text("0123456789", min_size=1, max_size=18)
SEPARATED = st.lists(st.sampled_from([*"0123456789", " ", "-", ".", "(0)", "(", ")"]), max_size=18).map("".join)
ADDRESSES = st.one_of(
    DIGITS,
    SEPARATED,
    st.text(max_size=12),
    st.sampled_from([*SPELLINGS, *NO_NUMBERS, "33612345678", "998877665544", "+998877665544"]),
).flatmap(
    lambda rest: st.sampled_from(["", "+", "00", "+00", "messenger:", "rcs:", "whatsapp:+", "sip:"]).map(
        lambda p: p + rest
    )
)


def is_spelling_of(address: str, number: str) -> bool:
    """Whether what was written, without its scheme and punctuation, are the digits that are dialled."""
    bare = re.sub(r"\A(whatsapp|rcs):", "", address)
    digits = re.sub("[^0-9]", "", re.sub(r"\A\+?00", "+", bare).replace("(0)", ""))
    if "+" + digits == number:
        return True
    # Whether a national zero is dialled from abroad, the plan of its country says.
    plan = phonenumbers.parse("+" + re.sub("[^0-9]", "", re.sub(r"\A\+?00", "+", bare)))
    return phonenumbers.format_number(plan, phonenumbers.PhoneNumberFormat.E164) == number


@given(ADDRESSES, ADDRESSES)
def test_two_addresses_meet_only_where_both_are_spellings_of_one_number(one: str, other: str) -> None:
    for normalise in (phone_number, lambda address: channel_address(address)[1]):
        first, second = normalise(one), normalise(other)
        if first is not None and first == second and one != other:
            assert is_spelling_of(one, first), (one, first)
            assert is_spelling_of(other, second), (other, second)


@given(ADDRESSES)
def test_what_comes_out_is_what_came_in_or_a_possible_number_and_stays_what_it_is(address: str) -> None:
    found = phone_number(address)
    if found is not None and found != address:
        assert phonenumbers.is_possible_number(phonenumbers.parse(found)) or re.fullmatch(r"\+[1-9][0-9]{6,14}", found)
    assert phone_number(found) == found


FORMS = {
    "a page-scoped id of Messenger": ({"From": "messenger:998877665544", "To": "messenger:15550100177"}, "messenger"),
    "a number and an agent of RCS": ({"From": "rcs:+34600111222", "To": "rcs:acme_agent"}, "rcs"),
    "a short code": ({"From": "68849", "To": "+15550100177"}, "sms"),
    "an alphanumeric sender": ({"From": "ACME", "To": "+15550100177"}, "sms"),
    "a channel that is none of ours": ({"From": "line:U1234", "To": "line:@acme"}, None),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_message_of_twilio_has_the_channel_and_the_addresses_that_it_came_with(name: str) -> None:
    people, channel = FORMS[name]
    body = urlencode({"MessageSid": "SM1", "SmsStatus": "received", "Body": "hi", **people}).encode()
    ((_, row),) = rows_of(record("webhooks.twilio", "twilio", body, content_type="application/x-www-form-urlencoded"))
    expected = {key: value.removeprefix("rcs:") if "rcs:+" in value else value for key, value in people.items()}
    assert (row["sender"], row["recipient"], row.get("channel")) == (expected["From"], expected["To"], channel)


CALLERS = (
    FRENCH,
    "68849",
    "anonymous",
    "Restricted",
    "+266696687",
    "sip:zoe@example.com:5060",
    "client:zoe",
    "0612345678",
)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("provider", ["twilio", "telnyx", "retell", "aircall"])
def test_a_caller_without_a_number_gets_none(provider: str, caller: str) -> None:
    content_type = "application/json"
    if provider == "twilio":
        content_type = "application/x-www-form-urlencoded"
        body = urlencode({"CallSid": "CA1", "CallStatus": "ringing", "Direction": "inbound", "From": caller}).encode()
    elif provider == "telnyx":
        payload = {"call_leg_id": "l", "from": caller}
        said = {"id": "e", "event_type": "call.initiated", "occurred_at": "2026-01-01T00:00:00Z", "payload": payload}
        body = json.dumps({"data": said}).encode()
    elif provider == "retell":
        body = json.dumps({"event": "call_started", "call": {"call_id": "c", "from_number": caller}}).encode()
    else:
        call = {"id": 1, "direction": "inbound", "raw_digits": caller}
        body = json.dumps({"event": "call.created", "timestamp": 1, "token": "t", "data": call}).encode()
    ((_, row),) = rows_of(record(f"webhooks.{provider}", provider, body, content_type=content_type))
    assert row["caller"] == caller


@pytest.mark.parametrize("spelled", [MEXICAN, "+52 1 55 1234 5678", "+521 55 1234 5678", "0052 1 55 1234 5678"])
def test_the_1_of_mexican_mobile_numbers_stays_however_it_is_spelled(spelled: str) -> None:
    assert phone_number(spelled) == MEXICAN
    assert whatsapp_number(MEXICAN[1:]) == MEXICAN
