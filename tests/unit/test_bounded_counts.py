"""Counts by what senders name stay within a number of names, and lose none of what they count."""

import sys

from aiokafka import AIOKafkaProducer

from ingest.log.event_log import EventLog
from ingest.quarantine.quarantine import MAX_MINUTES, QuarantineWriter
from replay.jobs.plan import MAX_TYPES, OTHER_TYPES, Plan
from replay.selection.matcher import Matcher
from schemas.envelope import Delivery
from schemas.providers import PROVIDERS
from schemas.providers.base import Secrets
from schemas.quarantine import QuarantineConfig
from schemas.settings import Source
from tests.support.records import FakeRecord
from tests.support.selections import selected

MINUTE_MS = 60_000


def record(kind: str) -> FakeRecord:
    return FakeRecord("webhooks.stripe", 0, 0, 1000, None, b"{}", [("ce_type", kind.encode())])


def test_a_plan_counts_all_records_and_names_some_types() -> None:
    plan = Plan(selected(("stripe",), from_ms=0), [], Matcher([]))
    for number in range(3 * MAX_TYPES):
        plan.add(record(f"stripe.{number}"))
        plan.add(record("stripe.invoice.paid"))
        plan.add(record(f"stripe.{number}" + "x" * 50_000))
    assert sum(plan.types.values()) == plan.records == 9 * MAX_TYPES
    assert plan.types["stripe.invoice.paid"] == 3 * MAX_TYPES
    assert len(plan.types) <= MAX_TYPES + 1
    assert OTHER_TYPES in plan.types
    assert sum(map(sys.getsizeof, plan.types)) < 1000 * MAX_TYPES


def test_while_the_log_is_away_what_the_quarantine_kept_out_waits_in_so_many_counts() -> None:
    def never() -> AIOKafkaProducer:
        raise AssertionError("this log is not started")

    quarantine = QuarantineWriter(EventLog(never, [], 1.0), QuarantineConfig(records=0), lambda: 0)
    source = Source("stripe", PROVIDERS["stripe"], Secrets(("whsec_0123456789",)))
    kept: list[bool] = []
    minutes = MAX_MINUTES + 3 * 24 * 60
    for minute in range(minutes):
        delivery = Delivery("stripe", "POST", "", "/webhooks/stripe", "", {}, b"{}", "1.2.3.4", minute * MINUTE_MS)
        quarantine.keep(source, delivery, "signature_mismatch", kept.append)
    quarantine.note_dropped()
    assert kept == [False] * minutes
    assert sum(quarantine._dropped.values()) == minutes
    assert len(quarantine._dropped) < MAX_MINUTES + 7
