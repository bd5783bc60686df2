"""What `/openapi.json` says is what the services route: no more, no less, and every problem is in the taxonomy."""

from collections.abc import Iterator
from typing import Any

import pytest

from ingest.app import PAGES
from ingest.http import openapi as ingest_openapi
from ingest.http.whole_request import PREFIX
from replay.api.app import describe_console
from schemas.errors import OPERATOR_PROBLEMS, REJECTIONS
from tests.support.consoles import console_app

INGRESS = ingest_openapi.description()
CONSOLE = console_app()
OPERATORS = describe_console(CONSOLE)


def test_every_route_of_the_operators_is_described_and_nothing_else() -> None:
    routed = {(route.method.lower(), route.resource.canonical) for route in CONSOLE.router.routes() if route.resource}
    described = {(method, path) for path, methods in OPERATORS["paths"].items() for method in methods}
    assert {(method, path) for method, path in routed if method != "head"} == described


def test_every_page_of_the_ingress_is_described_and_nothing_else() -> None:
    described = set(INGRESS["paths"])
    assert {path for path in described if not path.startswith(PREFIX)} == set(PAGES)
    assert {path for path in described if path.startswith(PREFIX)} == {
        "/webhooks/{source}",
        "/webhooks/{source}/{rest}",
    }


def problems(document: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                problem = response["content"].get("application/problem+json")
                for code in problem["schema"]["allOf"][1]["properties"]["code"]["enum"] if problem else ():
                    yield int(status), code


@pytest.mark.parametrize(
    ("document", "table", "elsewhere"),
    [
        (INGRESS, REJECTIONS, {"not_found"}),
        # Other methods than a path's own are not described.
        (OPERATORS, OPERATOR_PROBLEMS, {"method_not_allowed"}),
    ],
    ids=["ingress", "operators"],
)
def test_every_problem_is_of_the_taxonomy(
    document: Any, table: dict[str, tuple[int, str]], elsewhere: set[str]
) -> None:
    found = set(problems(document))
    assert found == {(status, code) for code, (status, _) in table.items() if code not in elsewhere}


def test_what_passes_says_when_to_come_again() -> None:
    for answers in (method["responses"] for path in INGRESS["paths"].values() for method in path.values()):
        told = {status for status, answer in answers.items() if "Retry-After" in answer.get("headers", {})}
        refused = {status for status, answer in answers.items() if "application/problem+json" in answer["content"]}
        assert told == {"429", "503"} & refused
