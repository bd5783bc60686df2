"""Text fit for a log, an `error` column or an operator's screen: what is personal or secret in it is masked.

The rules are few, and docs/reference/redaction.md explains them; where a text could be either, it is masked. A mask is
stable, so that two masked texts can be told apart, and masking twice changes nothing. Must not know bodies or headers:
those are in `schemas.redaction`.
"""

import re
from typing import Final

from schemas.errors import RedriveError

MASK: Final = "•••"

_AT: Final = r"(?:[@＠]|%(?:25)*40)"
_PLUS: Final = r"(?:[+＋]|%(?:25)*2B)"
_INVISIBLE: Final = r"\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
"""People copy numbers from address books together with marks of the writing direction."""

_GAP: Final = rf"(?:[^\S\r\n]|[.()·\-\u2010-\u2015{_INVISIBLE}]|%(?:25)*(?:20|28|29))"
_WIDE_GAP: Final = rf"(?:{_GAP}|/|%(?:25)*2F)"

_SECRET: Final = re.compile(
    r"(?P<kind>\b(?:whsec|sk_live|sk_test|rk_live|rk_test)_|\b(?:Bearer|Basic)(?:\s|%(?:25)*20)+)[^\s\"',;&]+"
    r"|(?P<name>(?:token|secret|password|api[_-]?key|signature|authorization)[\"']?(?:=|\"\s*:\s*)[\"']?)[^\s\"'&,;•]+"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*",
    re.IGNORECASE,
)
"""Well-known prefixes, `name=value` and `"name": "value"` of what is called a credential, JSON web tokens."""

_LOCAL: Final = r"[^\s@＠<>()\[\],;:\"\\/?]"
_EMAIL: Final = re.compile(
    # From the start of a word, and without backtracking into it: a long text is walked through once.
    rf"(?<!{_LOCAL})(?P<quote>'?)(?P<local>\"[^\"\r\n]+\"|(?!{_AT})(?:(?!{_AT}){_LOCAL})*+[/?]{{0,3}})(?P<at>{_AT})"
    rf"(?P<domain>\[[^\]\s]*\]|[^\s@＠<>()\[\],;:\"'\\/?&#=%]+)",
    re.IGNORECASE,
)

_WAMID: Final = re.compile(r"(?P<prefix>\bwamid\.)(?P<rest>[\w+/=%\-]+)", re.ASCII)
_WAMID_SHOWN: Final = 12
_WAMID_LEAST: Final = 32

_INTERNATIONAL: Final = rf"(?P<plus>{_PLUS})(?P<whole>(?:{_WIDE_GAP}){{0,3}}\d(?:(?:{_WIDE_GAP}){{0,3}}\d){{6,}})"
_NATIONAL: Final = (
    r"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{2}))(?P<word>[^\W\d_]*)"
    rf"(?P<digits>\(?\d(?:(?:{_GAP}){{0,2}}\d){{6,}})(?![^\W_])"
)
_NO_PHONE: Final = (
    r"(?<![\w+])(?:"
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?!\w)"
    r"|(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?![\w-])"
    rf"|1\d{{9}}(?:\d{{3}}|\.\d{{1,9}})?(?![^\W_]|{_GAP}{{1,2}}\d)"
    r"|(?:(?:[1-9]?\d|1\d\d|2[0-4]\d|25[0-5])\.){3}(?:[1-9]?\d|1\d\d|2[0-4]\d|25[0-5])(?![\w-]|\.\d)"
    r"|webhooks\.[\w-]+/\d+/\d+)"
)
"""UUIDs, ISO times, times in seconds or milliseconds (from 2001 to 2033), IPv4 addresses, locations in the log."""

_NUMBER: Final = re.compile(f"{_INTERNATIONAL}|(?P<known>{_NO_PHONE})|{_NATIONAL}", re.IGNORECASE)
_INTERNATIONAL_NUMBER: Final = re.compile(_INTERNATIONAL, re.IGNORECASE)
_GAPS: Final = re.compile(_WIDE_GAP, re.IGNORECASE)
_SPACE: Final = re.compile(r"\s|%(?:25)*(?:20|0[9A-D])", re.IGNORECASE)


def mask_text(text: str) -> str:
    """Free text, with secrets, e-mail addresses, WhatsApp's message ids and everything like a phone number masked."""
    return _NUMBER.sub(_mask_number, _mask_marked(text))


def mask_id(text: str) -> str:
    """Mask an event id or a record id, and a phone number with `+` in it. Plain numbers that are parts of an id stay:
    they are HubSpot's, Aircall's and Google's own ids. A text with a space is not an id and is hidden whole.
    """
    if _SPACE.search(text):
        return f"<text {len(text)}>"
    numbers = _INTERNATIONAL_NUMBER if ":" in text else _NUMBER
    return numbers.sub(_mask_number, _mask_marked(text))


def mask_key(text: str) -> str:
    """A part of a row's key. Its plain numbers stay, because a row without its key can't be found."""
    return _INTERNATIONAL_NUMBER.sub(_mask_number, _mask_marked(text))


def mask_digits(digits: str) -> str:
    """`33612345678` -> `33•••5678`, and of less than ten digits `5551234` -> `5•••34`: at least four are hidden."""
    return f"{digits[:2]}{MASK}{digits[-4:]}" if len(digits) >= 10 else f"{digits[:1]}{MASK}{digits[-2:]}"


def _mask_marked(text: str) -> str:
    """Mask what its form alone identifies, in any context."""
    text = _SECRET.sub(_mask_secret, text)
    text = _EMAIL.sub(_mask_email, text)
    return _WAMID.sub(_mask_wamid, text)


def _mask_secret(found: re.Match[str]) -> str:
    return (found["kind"] or found["name"] or "") + MASK


def _mask_email(found: re.Match[str]) -> str:
    """`zoe@example.com` -> `z•••@example.com`."""
    local = found["local"]
    first = next((c for c in local if c.isalnum()), "") if len(local) > 1 and not local.startswith("%") else ""
    return f"{found['quote']}{first}{MASK}{found['at']}{found['domain']}"


def _mask_wamid(found: re.Match[str]) -> str:
    """The first part of the base64 is the customer's number; the last is the message's own."""
    rest = found["rest"]
    return found["prefix"] + MASK + (rest[-_WAMID_SHOWN:] if len(rest) >= _WAMID_LEAST else "")


def _mask_number(found: re.Match[str]) -> str:
    groups = found.groupdict()
    if groups.get("known") is not None:
        return found[0]
    if groups.get("plus") is not None:
        return groups["plus"] + mask_digits(_GAPS.sub("", groups["whole"]))
    return groups["word"] + mask_digits(_GAPS.sub("", groups["digits"]))


def reason_of(error: BaseException) -> str:
    """The message of an error, to end a sentence with; its type's name if it has no message, as a `TimeoutError`."""
    return str(error).strip().removesuffix(":") or type(error).__name__


_TALKS_OF_ITSELF: Final = ("aiokafka", "asyncpg")
"""Clients whose messages are about connections and names; what Postgres says of data is cut."""


def describe(error: BaseException) -> str:
    """An exception for a log or an `error` column, without the values that it quotes.

    Errors of ours keep their message. Those of Postgres lose their DETAIL lines and, if it refused the data, the part
    after a colon. The others keep only type and place: `invalid literal for int(): '+336…'` quotes a value.
    """
    try:
        return _describe(error) or type(error).__name__
    except BaseException:  # noqa: BLE001 - a plug-in's exception runs a plug-in's code when it is asked what it says
        return type(error).__name__


def _describe(error: BaseException) -> str:
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return _describe_postgres(error, sqlstate)
    if isinstance(error, RedriveError | OSError) or type(error).__module__.partition(".")[0] in _TALKS_OF_ITSELF:
        name, text = type(error).__name__, mask_text(reason_of(error))
        # Our own need no name in front, and some clients' have it there.
        return text if isinstance(error, RedriveError) or text.startswith(name) else f"{name}: {text}"
    return f"{type(error).__name__}{_place(error)}"


def _describe_postgres(error: BaseException, sqlstate: str) -> str:
    message = str(error.args[0]) if error.args else ""
    if sqlstate.startswith("22"):
        # `invalid input syntax for type integer: "+336…"`; the client says `invalid input for query argument $7: […]`.
        message = message.partition(": ")[0].rstrip()
    names = [getattr(error, f"{kind}_name", None) for kind in ("table", "column", "constraint")]
    where = ".".join(name for name in names if name)
    return f"{mask_text(message) or type(error).__name__} ({sqlstate}{', ' + where if where else ''})"


def _place(error: BaseException) -> str:
    """Where it was raised: ` at projections/stripe.py:88`."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {'/'.join(trace.tb_frame.f_code.co_filename.split('/')[-2:])}:{trace.tb_lineno}"
