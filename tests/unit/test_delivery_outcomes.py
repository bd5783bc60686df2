"""Every outcome of a delivery has one answer, in the shape of its source; and a body counts until it is answered."""

from typing import Any

import pytest

from ingest.append_or_spool import DeliveryOutcome
from ingest.dedupe.id_table import IdTable
from ingest.handler import Exchange
from ingest.http.limits import Limits
from ingest.http.responses import EMPTY_TWIML, HttpAnswer
from schemas.envelope import Location
from schemas.limits import LimitsConfig
from tests.support.ingresses import source

PLACE = Location("webhooks.stripe", 7, 41)
RECORD = "Redrive-Record: webhooks.stripe/7/41\r\n"
JSON = "Content-Type: application/json\r\n"
XML = "Content-Type: text/xml; charset=utf-8\r\n"


def answer_to(outcome: DeliveryOutcome, provider: str) -> HttpAnswer:
    answers: list[HttpAnswer] = []
    Exchange(answers.append, source("any", provider)).end(outcome)
    (answer,) = answers
    return answer


@pytest.mark.parametrize("status", ["accepted", "duplicate"])
def test_what_is_on_the_log_is_answered_with_its_place(status: Any) -> None:
    outcome = DeliveryOutcome(status, "evt_1", PLACE)
    body = b'{"status":"%s","record_id":"evt_1"}' % status.encode()
    assert answer_to(outcome, "stripe") == HttpAnswer(200, JSON + RECORD, body)
    assert answer_to(outcome, "twilio") == HttpAnswer(200, XML + RECORD, EMPTY_TWIML)


def test_what_is_in_the_spool_is_answered_without_a_place() -> None:
    outcome = DeliveryOutcome("spooled", "evt_1")
    assert answer_to(outcome, "stripe") == HttpAnswer(200, JSON, b'{"status":"spooled","record_id":"evt_1"}')
    assert answer_to(outcome, "twilio") == HttpAnswer(200, XML, EMPTY_TWIML)


@pytest.mark.parametrize(("status", "expected"), [("log_unavailable", 503), ("internal_error", 500)])
def test_what_is_stored_nowhere_is_a_problem_with_its_code(status: Any, expected: int) -> None:
    answer = answer_to(DeliveryOutcome(status, "evt_1"), "stripe")
    assert (answer.status, f'"code":"{status}"' in answer.body.decode()) == (expected, True)
    assert ("Retry-After: 5\r\n" in answer.headers) is (expected == 503)
    assert "Redrive-Record" not in answer.headers


def test_a_body_is_in_flight_until_its_answer() -> None:
    limits = Limits(LimitsConfig(), IdTable(10))
    exchange = Exchange(lambda _: None, source("any", "stripe"))
    exchange.hold(limits, 1000)
    assert limits.bytes_in_flight == 1000
    exchange.end(DeliveryOutcome("spooled", "evt_1"))
    assert limits.bytes_in_flight == 0
