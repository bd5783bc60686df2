"""Text and numbers that JSON and the log allow and Postgres does not: represented, not refused (invariant 9). Pure.

U+0000, lone surrogates and bytes that are not UTF-8 become U+FFFD. A number that no double holds becomes its own digits
as text, so that a rule that reads it reports it, and a rule that does not ignores it; so does a bare `NaN`.
"""

import re
from math import isinf
from typing import Any, Final

import orjson

_TOKEN: Final = re.compile(
    rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|-?[0-9][0-9.eE+-]*+|(?P<no_number>-?(?:NaN|Infinity)\b)', re.DOTALL
)
"""A string or a number of JSON, or what some write in the place of one. A string without an end ends with the
body, so that its quotes are not tried one by one.
"""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape of a string: a pair of surrogates, half of one, or any other."""

_LONGEST_DOUBLE: Final = 300
"""Fewer digits than this, and no exponent: a double holds it."""

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")
REPLACEMENT: Final = "\ufffd"


def loads(body: bytes) -> Any:
    """JSON as RFC 8259 allows it, and where a text or a number is not allowed, what is around it. Raises
    `orjson.JSONDecodeError`.

    Only what the fast parser refused is read twice.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace").encode()
        represented = _TOKEN.sub(_represent, text)
        if represented == body:
            raise
        return orjson.loads(represented)


def _represent(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if token["no_number"] is not None:
        return b'"%b"' % text
    if text.startswith(b'"'):
        return _ESCAPE.sub(_whole, text) if b"\\u" in text else text
    if len(text) < _LONGEST_DOUBLE and b"e" not in text and b"E" not in text:
        return text
    try:
        return b'"%b"' % text if isinf(float(text)) else text
    except ValueError:
        # Not a number of JSON either; the parser says so.
        return text


def _whole(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape["lone"] is None else b"\\ufffd"


def storable(text: str) -> str:
    return _UNSTORABLE.sub(REPLACEMENT, text)


def may_hold_nul(body: bytes, query: str) -> bool:
    """True if U+0000 may be in what a body or a query says, from one look at its bytes. Never false by mistake.

    JSON spells it `\\u0000`, forms `%00` or as it is. A single byte is found ten times as fast as a word, and most JSON
    has no backslash at all.
    """
    if body.startswith((b"{", b"[")):
        return b"\\" in body and b"\\u0000" in body
    return b"%00" in body or b"\0" in body or b"\\u0000" in body or "%00" in query or "\0" in query
