"""A route of the operators' API: its models parse the request, and describe it in `/openapi.json`."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

import orjson
from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, ValidationError

from replay.api.authentication import Handler
from replay.api.fields import Nothing
from replay.audit import Author
from replay.faults import first_fault
from replay.selection.selection import require_text
from schemas.errors import InvalidSelection
from schemas.openapi import Operation, Parameter, ResponseBody

P = TypeVar("P", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)
M = TypeVar("M", bound=BaseModel)

OPERATOR_HEADER: Final = "X-Operator"
OPERATIONS: Final = web.AppKey("operations", list[Operation])
"""The routed operations of an application, for its description."""

OPERATOR: Final = web.AppKey("operator", str)
"""The operator, if a request names none."""

ALWAYS: Final = (
    "unauthorized",
    "cross_site",
    "too_many_requests",
    "internal_error",
    "database_unavailable",
    "log_unavailable",
    "locked",
    "unavailable",
    "unreadable_record",
)
"""Problems of every operation that asks for the key."""

_NOWHERE: Final = frozenset({"literal_error", "uuid_parsing"})
"""Faults of a path that no resource can have."""


@dataclass(frozen=True, slots=True)
class RouteCall(Generic[P, Q]):
    """A request as the models of its route have read it. `given`: the query of a GET, the body of a POST."""

    path: P
    given: Q
    request: web.Request

    @property
    def operator(self) -> str:
        """Raises `InvalidSelection`."""
        found = self.request.headers.get(OPERATOR_HEADER, "").strip()[:100]
        require_text(found)
        return found or self.request.app[OPERATOR]

    def author(self, reason: str | None) -> Author:
        """Raises `InvalidSelection`."""
        return Author(self.operator, (reason or "").strip() or None)


class Endpoint(NamedTuple):
    """A route of an application: `path` as aiohttp writes it."""

    path: str
    operation: Operation
    handler: Handler


@dataclass(frozen=True, slots=True)
class Route(Generic[P, Q]):
    """An operation's request and answer. `given_model`: of the query of a GET, of the body of a POST.

    A parameter is documented because a model parses it, and refused if no model declares it.
    """

    method: Literal["get", "post"]
    path: str
    summary: str
    path_model: type[P]
    given_model: type[Q]
    answers: Mapping[int, type[BaseModel]]
    problems: tuple[str, ...] = ()

    def to(self, handle: Callable[[RouteCall[P, Q]], Awaitable[web.Response]]) -> Endpoint:
        async def handler(request: web.Request) -> web.Response:
            return await handle(await self.read(request))

        return Endpoint(self.path, self._operation(), handler)

    async def read(self, request: web.Request) -> RouteCall[P, Q]:
        """Raises `InvalidSelection` or `HTTPNotFound`."""
        path = _parse(self.path_model, dict(request.match_info), _NOWHERE)
        if self.method == "get":
            return RouteCall(path, self.parse_query(request.query), request)
        _parse(Nothing, _once(request.query))
        return RouteCall(path, _parse(self.given_model, await request.read()), request)

    def parse_query(self, query: MultiMapping[str]) -> Q:
        """Parse the query of a GET. Raises `InvalidSelection`."""
        return _parse(self.given_model, _once(query))

    def _operation(self) -> Operation:
        is_post = self.method == "post"
        parameters = [
            *_parameters(self.path_model, "path"),
            *(() if is_post else _parameters(self.given_model, "query")),
        ]
        return Operation(
            self.method,
            re.sub(r":[^}]+", "", self.path),
            self.summary,
            {status: [ResponseBody(self.summary, model)] for status, model in self.answers.items()},
            (*ALWAYS, "invalid_selection", *(("request_entity_too_large",) if is_post else ()), *self.problems),
            tuple(parameters),
            self.given_model if is_post else None,
            is_open=False,
        )


def register(app: web.Application, endpoints: Iterable[Endpoint]) -> None:
    """Route them, and describe them."""
    for path, operation, handler in endpoints:
        app.add_routes([(web.get if operation.method == "get" else web.post)(path, handler)])
        app[OPERATIONS].append(operation)


def answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body, default=str), status=status, content_type="application/json")


def _parse(model: type[M], given: Mapping[str, str] | bytes, nowhere: frozenset[str] = frozenset()) -> M:
    """Raises `InvalidSelection`, or `HTTPNotFound` for the faults `nowhere`."""
    try:
        if isinstance(given, bytes):
            return model.model_validate_json(given.strip() or b"{}")
        return model.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        if fault["type"] in nowhere:
            raise web.HTTPNotFound(reason="not found") from error
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            known = ", ".join(sorted(_properties(model))) or "none"
            raise InvalidSelection(f"unknown field {str(fault['loc'][0])[:40]!r}; expected: {known}") from error
        raise InvalidSelection(first_fault(error)) from error


def _once(query: MultiMapping[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in query.items():
        if name in found:
            raise InvalidSelection(f"{name[:40]!r} is given twice")
        found[name] = value
    return found


def _parameters(model: type[BaseModel], place: Literal["path", "query"]) -> list[Parameter]:
    return [
        Parameter(name, one.pop("description", ""), place, {key: value for key, value in one.items() if key != "title"})
        for name, one in _properties(model).items()
    ]


def _properties(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """JSON Schema by name. A parameter that is left out is null to the model, and can't be null in a URL."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in model.model_json_schema().get("properties", {}).items():
        kinds = [kind for kind in one.pop("anyOf", ()) if kind != {"type": "null"}]
        one |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        if one.get("default", 0) is None:
            del one["default"]
        found[name] = one
    return found
