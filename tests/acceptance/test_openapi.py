"""The real services answer as their `/openapi.json` says, whatever is asked: no 500, no undeclared status, no other shape."""

import asyncio
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas.providers import PROVIDERS
from tests.support.amounts import amount
from tests.support.processes import Installation
from tests.support.waiting import WAIT_SECONDS

SEED = 20261121
EXAMPLES = amount(3, 12)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def cases(operation: Any) -> st.SearchStrategy[Any]:
    """As described, and where there is something to be wrong also not as described."""
    right: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not (operation.query or operation.body):
        return right
    wrong: st.SearchStrategy[Any] = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return right | wrong


def ask_everything(url: str, headers: dict[str, str], known: dict[str, list[str]]) -> int:
    """Every operation of the service, many times; returns how many there are. `known` are parameters of paths that name
    something: what is made up never would.
    """
    schema = schemathesis.openapi.from_dict(
        requests.get(f"{url}/openapi.json", headers=headers, timeout=WAIT_SECONDS).json()
    )
    operations = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operations.append(found.ok())
    choices = st.fixed_dictionaries({name: st.sampled_from([*values, None]) for name, values in known.items()})
    for operation in operations:

        @seed(SEED)
        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=cases(operation), chosen=choices)
        def ask(case: Any, chosen: dict[str, str | None]) -> None:
            # A longer request line is not HTTP's to carry: aiohttp refuses it before any route.
            assume(len(case.formatted_path) + sum(len(str(value)) for value in (case.query or {}).values()) < 600)
            for name in set(case.path_parameters or ()) & set(chosen):
                case.path_parameters[name] = chosen[name] or case.path_parameters[name]
            if isinstance(case.body, dict) and "source" in case.body and chosen["source"]:
                case.body["source"] = chosen["source"]
            case.headers.update(headers)
            case.call_and_validate(base_url=url, checks=CHECKS)

        try:
            ask()
        except Exception as error:
            # Its own traceback is thousands of lines that nobody wrote.
            notes = "\n".join(getattr(error, "__notes__", ()))
            raise AssertionError(f"{operation.label}: {error}\n{notes}") from None
    return len(operations)


async def test_the_services_answer_as_they_say(installation: Installation) -> None:
    print(f"seed {SEED}")
    key = {"X-Admin-API-Key": installation.address("ADMIN_API_KEY")}
    await installation.redrive("send", "stripe", "--wait")
    events = [event["event_id"] for event in (await installation.redrive_json("events", "list"))["events"]]
    known = {"source": ["stripe", *PROVIDERS], "event_id": events}
    assert await asyncio.to_thread(ask_everything, installation.ingest_url, {}, known) == 8
    assert await asyncio.to_thread(ask_everything, installation.url("console"), key, known) == 27
