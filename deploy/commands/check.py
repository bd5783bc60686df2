"""`redrive check | migrate`: is the configuration sound, is the database ours, are topics, spool and clocks right."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Final, LiteralString
from uuid import UUID

import asyncpg
import click
import orjson
from pydantic import ByteSize

from deploy import clock_check, fold_groups, generation_check, roles, view_check
from deploy import migrate as migrations
from deploy.connections import connected
from deploy.event_loop import run
from deploy.exit_codes import EXIT_MISCONFIGURED, Reported
from deploy.installation_audit import record
from deploy.lag_check import FoldState, fold_state
from deploy.spool_folder import SpoolState, spool_state
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import examples
from deploy.terminal.output import print_json, say
from deploy.terminal.topics import print_topic_faults, print_topics
from deploy.topics import Topics, TopicState, wanted
from deploy.wiring import Runtime, given_environment, variables_named
from ingest.quarantine.allowance import largest
from replay.log.reader import LogReader
from replay.prove.views import Configured
from schemas.cluster import Cluster
from schemas.errors import Misconfigured, Unavailable, UnreadableRecord
from schemas.quarantine import QuarantineConfig
from schemas.settings import VARIABLES, Source
from schemas.topics import fold_group, is_folded

_SAMPLE_RECORDS: Final = 200
"""How far back each partition is read for test-mode events."""

_SESSION_FACTS: Final[LiteralString] = """
    SELECT current_user AS name, inet_server_addr() IS NOT NULL AS is_remote, version AS tls
    FROM pg_stat_ssl WHERE pid = pg_backend_pid()
"""
_NEAR: Final = 0.85
_FOREIGN: Final = frozenset({"STRIPE_SECRET_KEY", "STRIPE_API_KEY", "TWILIO_ACCOUNT_SID"})
"""Names of the providers' other tools that merely look like ours."""


def near_misses(environment: Iterable[str], named: frozenset[str] = frozenset()) -> list[str]:
    """Variables that look like a misspelling of ours: silently ignored settings cost events.

    `named`: those that redrive.toml reads.
    """
    warnings = []
    for name in sorted(set(environment) - set(VARIABLES) - _FOREIGN - named):
        close = get_close_matches(name.upper(), VARIABLES, n=1, cutoff=_NEAR)
        if close:
            warnings.append(f"{name} is not a variable of redrive; did you mean {close[0]}?")
    return warnings


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """How we speak with Kafka and Postgres, and as whom; `clear` warns of what a network between could read."""

    kafka: str
    database: str
    clear: tuple[str, ...]

    @classmethod
    def of(cls, cluster: Cluster, session: asyncpg.Record) -> "ConnectionReport":
        clear = []
        if cluster.ssl_context is None:
            clear.append("the connection to Kafka is not encrypted: set KAFKA_SECURITY_PROTOCOL to SASL_SSL or SSL")
        if session["is_remote"] and not session["tls"]:
            clear.append("the connection to Postgres is not encrypted: set sslmode=verify-full in DATABASE_URL")
        login = f", as {cluster.login.username} by {cluster.login.mechanism}" if cluster.login else ""
        way = session["tls"] or ("without TLS" if session["is_remote"] else "by Unix socket")
        return cls(f"{cluster.servers}, {cluster.protocol}{login}", f"as {session['name']}, {way}", tuple(clear))


@dataclass(frozen=True, slots=True)
class CheckFindings:
    """The findings besides the topics."""

    connections: ConnectionReport
    group: str | None
    """The group of the processors; None while the schema is behind."""
    workers: int
    spool: SpoolState
    fold: FoldState | None
    """None where the schema is behind."""
    sources: int
    quarantine: QuarantineConfig
    clock_ahead_seconds: float

    def as_document(self) -> dict[str, Any]:
        fold = {"group": self.group, **(self.fold.as_document() if self.fold else {})}
        return {
            "kafka": self.connections.kafka,
            "database": self.connections.database,
            "fold": fold,
            "ingest": {"workers": self.workers, "spool": asdict(self.spool)},
            "quarantine": {"bytes_in_seven_days": self.quarantine.bytes_at_most(self.sources)},
            "clock_ahead_of_postgres_seconds": self.clock_ahead_seconds,
        }

    def __str__(self) -> str:
        ingest = f"{self.workers} process{'es' if self.workers > 1 else ''}; spool {self.spool}"
        most = ByteSize(self.quarantine.bytes_at_most(self.sources)).human_readable()
        kept = f"at most {most} in seven days from this host ({self.sources} source{'' if self.sources == 1 else 's'})"
        lines = [f"kafka       {self.connections.kafka}", f"database    {self.connections.database}"]
        if self.group and self.fold:
            lines.append(f"fold        group {self.group}; {self.fold}")
        return "\n".join([*lines, f"ingest      {ingest}", f"quarantine  {kept}"])


@click.command(epilog=examples("redrive check", "redrive check --json"))
@json_option
@with_runtime
def check(runtime: Runtime, as_json: bool) -> None:
    """Check settings, database, views, topics, spool, clocks, how far the fold is, and recent events; exit 78 for what
    cannot work.
    """
    run(_check(runtime, as_json))


async def _check(runtime: Runtime, as_json: bool) -> None:
    warnings = near_misses(given_environment(), variables_named(runtime.settings.config))
    faults: list[str] = []
    if not runtime.sources:
        faults.append("no source is configured: set a provider's secret, or [sources] in redrive.toml")
    for source in runtime.sources.values():
        if not source.secrets.values:
            faults.append(f"source {source.name} has no secret: it answers 503 misconfigured")
        if source.provider.answer_handshake is not None and source.secrets.verify_token is None:
            warnings.append(f"source {source.name} has no verify token: the handshake answers 503 misconfigured")
        if source.provider.signs_url and runtime.settings.public_url is None:
            warnings.append(f"source {source.name}: PUBLIC_URL is not set, so the signed URL is taken from Host")
    cluster = runtime.cluster()
    installation: UUID | None = None
    async with connected(runtime.settings) as connection:
        try:
            connections = ConnectionReport.of(cluster, (await connection.fetch(_SESSION_FACTS))[0])
            ahead = await clock_check.clock_ahead(connection)
            pending = await migrations.plan(connection)
            if not pending:
                installation = await connection.fetchval(fold_groups.INSTALLATION)
                warnings += await generation_check.older_code(connection)
                warnings += await generation_check.open_losses(connection)
                said, found = await generation_check.declared_by_users(connection, runtime.declared())
                warnings += said
                faults += found
                configured = Configured(runtime.declared(), runtime.file.price_tiers)
                said, found = await view_check.other_views(connection, configured)
                warnings += said
                faults += found
        except Misconfigured as error:
            pending = []
            faults.append(str(error))
    if pending:
        faults.append(f"the schema is behind: {', '.join(pending)}; run `redrive migrate --apply`")
    async with Topics(cluster) as topics:
        states = await topics.states(wanted(runtime.sources.values()))
    fold = await fold_state(runtime.settings, cluster) if installation is not None else None
    warnings += fold.warnings if fold is not None else []
    faults += [f"topic {s.name} is missing; run `redrive topics --apply`" for s in states if not s.exists]
    if installation is not None:
        warnings += await _others_who_fold(cluster, installation, [s.name for s in states if is_folded(s.name)])
    if runtime.settings.app_env == "production":
        warnings += connections.clear
        warnings += await _production_warnings(cluster, runtime, states)
    spool = spool_state(runtime.settings)
    warnings += spool.warnings
    said, found = clock_check.clock_findings(ahead)
    warnings += said
    faults += found
    workers, limits = runtime.settings.ingest_workers, runtime.file.quarantine
    warnings += _too_large_to_keep(runtime.sources.values(), largest(limits, workers))
    group = fold_group(installation) if installation else None
    facts = CheckFindings(connections, group, workers, spool, fold, len(runtime.sources), limits, ahead)
    _report(as_json, warnings, faults, states, facts)
    is_faulty = bool(faults) or any(state.faults for state in states)
    if not is_faulty and not as_json:
        conclusion = f"; {fold.conclusion}" if fold is not None else ""
        is_still = fold is not None and bool(fold.still)
        mark, style = ("warning", "yellow") if is_still else ("ok", "green")
        still = ", and no position moves" if is_still else ""
        say(f"settings, database and topics are sound{conclusion}{still}", mark, style)
    if is_faulty:
        raise Reported(EXIT_MISCONFIGURED)


async def _others_who_fold(cluster: Cluster, installation: UUID, topics: Sequence[str]) -> list[str]:
    try:
        return fold_groups.warn_of_others(await fold_groups.find_groups(cluster), installation, topics)
    except Unavailable as error:
        return [f"{error}: other installations that fold are unknown"]


def _too_large_to_keep(sources: Iterable[Source], most: int) -> list[str]:
    found = [source.name for source in sources if source.max_body_bytes > most]
    what = f"[quarantine] bytes: each ingress process keeps no delivery of more than {ByteSize(most).human_readable()}"
    return [f"{what}, and larger ones can come to {', '.join(found)}"] if found else []


async def _production_warnings(cluster: Cluster, runtime: Runtime, states: Sequence[TopicState]) -> list[str]:
    warnings = [
        f"topic {state.name}: replication {state.replication}, min.insync.replicas {state.min_insync_replicas};"
        " one lost disk loses the log"
        for state in states
        if state.exists and (state.replication < 3 or state.min_insync_replicas < 2)
    ]
    present = {state.name for state in states if state.exists}
    for source in runtime.sources.values():
        if source.provider.name == "stripe" and source.topic in present:
            found = await _test_mode_events(cluster, source)
            if found:
                warnings.append(f"source {source.name}: {found} of its recent events are Stripe test mode")
    return warnings


async def _test_mode_events(cluster: Cluster, source: Source) -> int:
    found = 0
    async with LogReader(cluster) as reader:
        tails = await reader.tails(source.topic, _SAMPLE_RECORDS)
        # A sample: the state of the fold names what can't be read.
        with suppress(UnreadableRecord):
            async for _, records in reader.read(tails):
                found += sum(_is_test_mode(record.value) for record in records)
    return found


def _is_test_mode(body: bytes | None) -> bool:
    try:
        event = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(event, dict) and event.get("livemode") is False


def _report(
    as_json: bool, warnings: list[str], faults: list[str], states: Sequence[TopicState], facts: CheckFindings
) -> None:
    if as_json:
        found = facts.as_document()
        print_json({"faults": faults, "warnings": warnings, **found, "topics": [asdict(state) for state in states]})
        return
    say(f"{facts}\n")
    print_topics(states)
    _print_findings(warnings, faults, states)


def _print_findings(warnings: list[str], faults: list[str], states: Sequence[TopicState]) -> None:
    for text in warnings:
        say(text, "warning", "yellow")
    for text in faults:
        say(text, "fault", "red")
    print_topic_faults(states)


@click.command(epilog=examples("redrive migrate", "redrive migrate --apply --roles"))
@click.option("--apply", is_flag=True, help="Apply the pending migrations; without it, list them.")
@click.option("--roles", "with_roles", is_flag=True, help="Also create the roles of least privilege, without logins.")
@json_option
@with_runtime
def migrate(runtime: Runtime, apply: bool, with_roles: bool, as_json: bool) -> None:
    """Bring the database to this version's schema: plan, or --apply."""

    async def work() -> tuple[list[str], bool]:
        async with connected(runtime.settings) as connection:
            pending = await migrations.plan(connection)
            if with_roles:
                pending += [f"role {name}" for name in await roles.missing(connection)]
            if apply:
                await _migrate(connection, runtime, pending, with_roles)
            return pending, apply

    names, is_applied = run(work())
    if as_json:
        print_json({"pending": [] if is_applied else names, "applied": names if is_applied else []})
    elif is_applied:
        say(f"applied: {', '.join(names)}" if names else "nothing to apply: the schema is up to date")
    else:
        say(f"pending: {', '.join(names)}; `redrive migrate --apply` applies them" if names else "up to date")


async def _migrate(connection: Any, runtime: Runtime, pending: list[str], with_roles: bool) -> None:
    tiers = runtime.file.price_tiers
    is_change = bool(pending) or tiers != await migrations.price_tiers(connection)
    what = {"pending": pending, "price_tiers": tiers}
    # A database that has no audit yet gets one with what is noted in it.
    is_noted = not is_change or await record(connection, runtime, "schema.migrate", **what)
    if with_roles:
        await roles.create(connection)
    await migrations.migrate(connection, runtime.settings.require_database(), runtime.declared())
    await migrations.store_price_tiers(connection, tiers)
    if not is_noted:
        await record(connection, runtime, "schema.migrate", **what)
