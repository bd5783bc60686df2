"""What the operators' routes share of a request: its body, its parameters, who asks and why. Must not decide."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import MultiMapping

from replay.audit import Author
from replay.selection.selection import parse_number, require_text
from replay.selection.times import parse_time
from schemas.errors import InvalidSelection

OPERATOR_HEADER: Final = "X-Operator"
_LAST_ID: Final = 2**63 - 1
BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False, "": False}


def operator_of(request: web.Request, default: str) -> str:
    """Raises `InvalidSelection`."""
    said = request.headers.get(OPERATOR_HEADER, "").strip()[:100]
    require_text(said)
    return said or default


def author_of(request: web.Request, body: Mapping[str, Any], default: str) -> Author:
    """Who wants it, and the `reason` of the body. Raises `InvalidSelection`."""
    reason = body.get("reason")
    if reason is not None and not isinstance(reason, str):
        raise InvalidSelection("reason is a text")
    require_text(reason)
    return Author(operator_of(request, default), (reason or "").strip() or None)


async def document_of(request: web.Request) -> dict[str, Any]:
    """The body, which may be left out. Raises `InvalidSelection`."""
    raw = await request.read()
    try:
        found = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidSelection("The body is not JSON.") from error
    if not isinstance(found, dict):
        raise InvalidSelection("The body is not a JSON object.")
    return found


def flag_of(body: Mapping[str, Any], name: str) -> bool:
    """False where it is left out. Raises `InvalidSelection`."""
    found = body.get(name, False)
    if not isinstance(found, bool):
        raise InvalidSelection(f"{name} is true or false")
    return found


def parameters(query: MultiMapping[str], known: frozenset[str]) -> MultiMapping[str]:
    """A misspelt filter would show everything, so it is refused."""
    if unknown := sorted(set(query) - known):
        raise InvalidSelection(f"{unknown[0][:40]!r} is no parameter; there are: {', '.join(sorted(known))}")
    if twice := [name for name in known if len(query.getall(name, ())) > 1]:
        raise InvalidSelection(f"{twice[0]!r} is given twice")
    return query


def time_of(query: Mapping[str, Any], name: str) -> int | None:
    """Milliseconds since the epoch. Raises `InvalidSelection`."""
    found = query.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidSelection(f"{name} is a text: RFC 3339, or '2h ago'")
    try:
        return None if found is None else parse_time(found)
    except ValueError as error:
        raise InvalidSelection(f"{name}: {error}") from error


def number_of(query: Mapping[str, str], name: str) -> int | None:
    """Of a cursor that is a number. Raises `InvalidSelection`."""
    if name not in query:
        return None
    found = parse_number(query[name], _LAST_ID)
    if found is None:
        raise InvalidSelection("that is no cursor: give back the one that the page before came with")
    return found


def answer(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body, default=str), content_type="application/json")
