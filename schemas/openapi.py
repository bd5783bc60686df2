"""An OpenAPI 3.1 description, made from the declarations beside the routes. Must not know any service."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

PROBLEM_TYPE: Final = "application/problem+json"
_REFERENCE: Final = "#/components/schemas/{model}"
_PASSING: Final = (429, 503)
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds, where that is known.", "schema": {"type": "integer"}}}

Problems = Mapping[str, tuple[int, str]]
"""A table of `schemas.errors`: code -> (status, what it means)."""


class Document(BaseModel):
    """Base of what services answer: nothing that is not declared."""

    model_config = ConfigDict(extra="forbid")


class Problem(Document):
    """RFC 9457. `code` is stable."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str


class Alive(Document):
    """The process lives."""

    status: Literal["ok"]


class Ready(Document):
    """The readiness of a service, and the state of each of its dependencies."""

    ready: bool
    checks: dict[str, bool]


class Description(BaseModel):
    """A document like this one."""

    model_config = ConfigDict(extra="allow")
    openapi: str


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """A body of one media type; without a model it is not described further."""

    description: str
    model: type[BaseModel] | None = None
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """`schema` is JSON Schema; a path's parameters are required, all others are not."""

    name: str
    description: str
    place: Literal["path", "query", "header"] = "query"
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path. `problems` are codes of the service's table; `body` a model or media types."""

    method: Literal["get", "post"]
    path: str
    summary: str
    answers: Mapping[int, Sequence[ResponseBody]]
    problems: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | tuple[str, ...] | None = None
    is_open: bool = True


HEALTH: Final = (
    Operation("get", "/healthz", "The process lives", {200: [ResponseBody("It does.", Alive)]}),
    Operation(
        "get",
        "/readyz",
        "Report whether the service's dependencies are available",
        {200: [ResponseBody("It is.", Ready)], 503: [ResponseBody("Something is not.", Ready)]},
    ),
    Operation("get", "/metrics", "Prometheus", {200: [ResponseBody("Every metric.", media_type="text/plain")]}),
)
"""The operations of every service."""


def describe(
    title: str, operations: Iterable[Operation], table: Problems, key_header: str | None = None
) -> dict[str, Any]:
    """The document. `key_header` is asked for by every operation that is not open."""
    found = list(operations)
    models: set[type[BaseModel]] = {Problem}
    for op in found:
        models |= {one.model for answers in op.answers.values() for one in answers if one.model is not None}
        models |= {op.body} if isinstance(op.body, type) else set()
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for op in found:
        paths.setdefault(op.path, {})[op.method] = _operation(op, table, key_header)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }
    if key_header:
        document["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": key_header}}
    return document


def _operation(op: Operation, table: Problems, key_header: str | None) -> dict[str, Any]:
    responses = {str(status): _response(answers) for status, answers in op.answers.items()}
    by_status: dict[int, list[str]] = {}
    for code in op.problems:
        by_status.setdefault(table[code][0], []).append(code)
    for status, codes in by_status.items():
        responses[str(status)] = _problem(status, codes, table, responses.get(str(status)))
    described: dict[str, Any] = {"summary": op.summary, "responses": responses}
    if op.parameters:
        described["parameters"] = [_parameter(one) for one in op.parameters]
    if isinstance(op.body, tuple):
        described["requestBody"] = {"content": {kind: {} for kind in op.body}}
    elif op.body is not None:
        described["requestBody"] = {"content": {"application/json": {"schema": _reference(op.body)}}}
    if key_header and not op.is_open:
        described["security"] = [{"key": []}]
    return described


def _response(answers: Sequence[ResponseBody]) -> dict[str, Any]:
    content = {one.media_type: {"schema": _reference(one.model)} if one.model else {} for one in answers}
    headers = {name: {"schema": {"type": "string"}} for one in answers for name in one.headers}
    return {
        "description": " ".join(one.description for one in answers),
        "content": content,
        **({"headers": headers} if headers else {}),
    }


def _problem(status: int, codes: list[str], table: Problems, known: dict[str, Any] | None) -> dict[str, Any]:
    """The response for one status, with its possible codes, beside the other answers with this status."""
    schema = {"allOf": [_reference(Problem), {"properties": {"code": {"enum": codes}, "status": {"const": status}}}]}
    meanings = [f"`{code}`: {table[code][1]}" for code in codes]
    said = [known["description"]] if known else []
    return {
        "description": "\n\n".join([*said, *meanings]) or HTTPStatus(status).phrase,
        "content": {**(known["content"] if known else {}), PROBLEM_TYPE: {"schema": schema}},
        **({"headers": _RETRY_AFTER} if status in _PASSING else {}),
    }


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.place,
        "description": one.description,
        "required": one.place == "path",
        "schema": dict(one.schema),
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
