"""What must hold of the words of a command, up to where it would connect. What they mean once read is in `orders`."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import click

from deploy.commands import audit, correct, dead_letters, prove, rebuild, replay, why
from deploy.terminal.selecting import selection_of
from deploy.terminal.targeting import with_endpoint
from replay.audit import AuditSearch
from replay.log.pacing import require_rate
from replay.prove.why import Question
from replay.selection.patterns import moment
from replay.selection.selection import iso_of
from replay.tables.generations import tables_named
from schemas.errors import InvalidSelection
from tests.fuzz.endpoints import require_one_reading
from tests.fuzz.operators import SOURCES
from tests.fuzz.orders import require_letters, require_storable, require_whole

LINES: tuple[str, ...] = (
    "plan --source stripe --from 2026-11-21T00:00:00Z --to 2026-11-22T00:00:00Z --by event --type stripe.invoice.* --diff",
    "plan --offsets webhooks.stripe:0:10-20 --event-id evt_1 --dead-letters --json",
    'plan --key accounts stripe cus_1 --key conversations twilio ["sms","+1","+2"] --any {"dead_letters":true}',
    "run --from 1750000000 --to http://localhost:3000/hooks --reason why --rate 2.5 --resign --concurrency 3 --detach",
    "run --from 2026-11-21 --to topic:copies --to 2026-11-22 --reason why --foreground",
    "show 3b241101-e2bb-4255-8caf-4136c566a962 --outcomes --failed --limit 5",
    "rebuild --only subscriptions --reason why --apply",
    "rebuild --as-of 2026-11-21T03:00:00Z --name noon",
    "rebuild --apply --generation 2 --accept-loss",
    "rebuild --rollback",
    "requeue webhooks.stripe/0/7 --source stripe --dead-reason invalid_payload --from 2026-01-01 --to 2026-01-02 --dry-run",
    "credits cus_1 --credits -5 --source stripe --reason why --id fix-1 --new",
    "account cus_1 --unfreeze --source stripe --reason why --dry-run",
    "subscription sub_1 --status active --period-end 2026-12-21T00:00:00Z --customer cus_1 --source stripe --reason why",
    "why accounts stripe cus_1 --source stripe --from 2026-01-01 --to 2026-01-02 --reveal --reason why",
    "audit --operator ines --action source.* --from 2026-01-01 --to 2026-01-02 --limit 5",
    "prove --out x.json --json",
    "prove --accept-loss --reason why",
)


def seeds() -> list[str]:
    """A line for each word, so that a word can hold spaces."""
    return [one.replace(" ", "\n") for one in LINES]


_SETTINGS: Final = ("kafka", "database", "data", "config")


def check_flags(data: bytes) -> None:
    """A command and its words, a line each: up to where it would connect."""
    name, *words = data.decode("utf-8", "surrogateescape").split("\n")
    # The system passes no NUL in a word.
    if name not in _COMMANDS or "--help" in words or "\0" in "".join(words):
        return
    command, read = _COMMANDS[name]
    with contextlib.suppress(InvalidSelection, click.UsageError):
        given = dict(command.make_context(name, words).params)
        for setting in _SETTINGS:
            given.pop(setting)
        read(given)


def _plan(given: dict[str, Any]) -> None:
    runtime: Any = SimpleNamespace(sources=SOURCES)
    taken = {one: given.pop(one, None) for one in ("reason", "rate", "resign", "concurrency", "detach", "foreground")}
    given.pop("with_diff", None)
    given.pop("has_partitions", None)
    given.pop("as_json")
    found, target = selection_of(runtime, **given), given["to"].target
    require_whole(found)
    if (sent := with_endpoint(target, bool(taken["resign"]), taken["concurrency"])) is not None:
        require_one_reading(sent)
    rate = require_rate(taken["rate"])
    assert rate is None or 0 < rate < 1e9


def _rebuild(given: dict[str, Any]) -> None:
    del given["reason"], given["as_json"]
    order, _ = rebuild.order_of(**given)
    tables_named(order.only)
    if (moment_of := order.snapshot()) is not None:
        assert moment_of.at.isoformat()
        assert len(moment_of.facts) < 64


def _requeue(given: dict[str, Any]) -> None:
    for name in ("is_all", "dry_run", "reason", "as_json"):
        del given[name]
    require_letters(dead_letters._wanted(**given))


def _correct(given: dict[str, Any]) -> None:
    assert given.get("period_end") is None or iso_of(given["period_end"])


def _why(given: dict[str, Any]) -> None:
    question = Question(given["table"], given["key"], given["sources"], given["from_ms"], given["to_ms"])
    require_storable(*question.key)


def _audit(given: dict[str, Any]) -> None:
    search = AuditSearch(**{name: given[name] for name in ("operator", "action_glob", "from_ms", "to_ms")})
    require_storable(search.operator, search.action_glob, moment(search.from_ms), moment(search.to_ms))


def _nothing(_: dict[str, Any]) -> None:
    """Its words say all."""


_COMMANDS: Final[dict[str, tuple[click.Command, Callable[[dict[str, Any]], None]]]] = {
    "plan": (replay.replay.commands["plan"], _plan),
    "run": (replay.replay.commands["run"], _plan),
    "show": (replay.replay.commands["show"], _nothing),
    "rebuild": (rebuild.rebuild, _rebuild),
    "requeue": (dead_letters.dead_letters.commands["requeue"], _requeue),
    "credits": (correct.correct.commands["credits"], _correct),
    "account": (correct.correct.commands["account"], _correct),
    "subscription": (correct.correct.commands["subscription"], _correct),
    "why": (why.why, _why),
    "audit": (audit.audit.commands["list"], _audit),
    "prove": (prove.prove, _nothing),
}
