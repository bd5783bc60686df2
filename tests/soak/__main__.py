"""`python -m tests.soak`: the real stack under load, hurt, and then held to the story. A run is one JSON document.

A seed decides what is told and who is killed when (counted in deliveries); what the machine makes of it is its own.
"""

import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deploy.supervisor import Child
from tests.soak import scenarios
from tests.soak.chaos.aside import configured
from tests.soak.chaos.run import chaos as run_chaos
from tests.soak.load import Journal
from tests.soak.scenarios import Run
from tests.soak.tale import Tale
from tests.soak.verdict import SHOWN, judge, until_settled
from tests.support.brokers import cluster
from tests.support.processes import Installation
from tests.support.signing import SECRETS

SETTLE_SECONDS = 900.0


@dataclass(frozen=True)
class Options:
    """Of every command."""

    seed: int
    rate: float
    connections: int
    workers: int
    keep: bool
    out: Path | None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, default=lambda: secrets.randbits(32), help="Default: a new one.")
@click.option("--rate", type=float, default=1000.0, show_default=True, help="Deliveries a second.")
@click.option("--connections", type=int, default=128, show_default=True)
@click.option("--workers", type=int, default=2, show_default=True, help="INGEST_WORKERS.")
@click.option("--keep", is_flag=True, help="Keep the folder of the run also when all is well.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the document there.")
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Soak redrive: the real processes in a scratch folder, a load, and the tables that must result."""
    context.obj = Options(**options)


@main.command()
@click.option("--deliveries", type=int, default=500_000, show_default=True)
@click.option("--count", type=int, default=200, show_default=True, help="Kills.")
@click.pass_obj
def kills(options: Options, deliveries: int, count: int) -> None:
    """kill -9 for ingest processes, their parent, processors, Kafka and Postgres at random moments."""
    _report(options, lambda run: scenarios.kills(run, deliveries, count))


@main.command()
@click.option("--deliveries", type=int, default=60_000, show_default=True)
@click.option("--count", type=int, default=10, show_default=True, help="Kills.")
@click.pass_obj
def brokers(options: Options, deliveries: int, count: int) -> None:
    """Three brokers, every record on three of them, two needed (min.insync.replicas); kill -9 for one at a time."""
    _report(options, lambda run: scenarios.broker_kills(run, deliveries, count), backends=of_three)


@main.command()
@click.option("--seconds", type=float, default=300.0, show_default=True, help="How long the broker is away.")
@click.option("--around", type=float, default=20.0, show_default=True, help="Seconds of load before and after.")
@click.pass_obj
def outage(options: Options, seconds: float, around: float) -> None:
    """The broker hangs (SIGSTOP) under load, and comes back."""
    _report(options, lambda run: scenarios.outage(run, seconds, around))


@main.command()
@click.option("--minutes", type=float, default=60.0, show_default=True)
@click.option("--max-ids", type=int, default=50_000, show_default=True, help="DEDUPE_MAX_IDS: full before it is warm.")
@click.pass_obj
def memory(options: Options, minutes: float, max_ids: int) -> None:
    """Load alone, and how every process grows."""
    _report(options, lambda run: scenarios.memory(run, minutes * 60), DEDUPE_MAX_IDS=str(max_ids))


@main.command()
@click.option("--deliveries", type=int, default=500_000, show_default=True)
@click.option("--count", type=int, default=200, show_default=True, help="Disturbances.")
@click.pass_obj
def chaos(options: Options, deliveries: int, count: int) -> None:
    """Kills and freezes of everything, and between them an operator who rebuilds, rolls back, drops, replays, requeues
    and pauses, adds partitions, makes a topic anew, and starts and ends a second installation.
    """
    _report(options, lambda run: run_chaos(run, deliveries, count), backends=configured)


Backends = Callable[[Path], AbstractAsyncContextManager[tuple[dict[str, str], Sequence[Child]]]]
"""Environment of the services, and the brokers that the run may hurt by itself."""


@asynccontextmanager
async def embedded(_: Path) -> AsyncIterator[tuple[dict[str, str], Sequence[Child]]]:
    """`redrive up` brings its own."""
    yield {}, ()


@asynccontextmanager
async def of_three(folder: Path) -> AsyncIterator[tuple[dict[str, str], Sequence[Child]]]:
    async with cluster(folder) as (addresses, brokers):
        yield addresses, brokers.children


def _report(
    options: Options, scenario: Callable[[Run], Awaitable[None]], backends: Backends = embedded, **environment: str
) -> None:
    click.echo(f"seed {options.seed}", err=True)
    # The standard loop: uvloop starts no children as another user, and Postgres is one.
    found = asyncio.run(_soak(options, scenario, backends, environment))
    document = json.dumps(found, indent=2)
    click.echo(document)
    if options.out is not None:
        options.out.write_text(document + "\n")
    sys.exit(0 if found["is_good"] else 1)


async def _soak(
    options: Options, scenario: Callable[[Run], Awaitable[None]], backends: Backends, environment: dict[str, str]
) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="redrive-soak-"))
    click.echo(f"folder {folder}", err=True)
    tale = Tale(options.seed, start=int(time.time()) - 200_000)
    load_before = os.getloadavg()[0]
    async with AsyncExitStack() as stack:
        addresses, brokers = await stack.enter_async_context(backends(folder))
        workers = {"INGEST_WORKERS": str(options.workers)}
        installation = Installation(folder, **SECRETS, **workers, **addresses, **environment)
        run = Run(installation, options.seed, options.rate, options.connections, tale, brokers)
        stack.push_async_callback(installation.stop)
        await installation.up()
        started = time.monotonic()
        await scenario(run)
        ended = time.monotonic()
        async with scenarios.watched(run, "settling", 1, lambda: 0):
            await until_settled(installation, SETTLE_SECONDS, run.aside)
        settled = time.monotonic()
        verdict = await judge(installation, tale, run.journal, run.aside)
        further = {} if run.further is None else await run.further()
    is_good = verdict.is_good and not run.journal.surprises and further.get("is_good", True)
    if is_good and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "command": sys.argv[1:],
        "seed": options.seed,
        "is_good": is_good,
        "kills": {"all": run.kills.total(), **run.kills},
        **_journal(run.journal, ended - started),
        "most_spooled": run.most_spooled,
        "seconds": {"load": round(ended - started, 1), "settling": round(settled - ended, 1)},
        "verdict": {
            "records": verdict.records,
            "records_beside_the_first": verdict.extra_records,
            "events": verdict.events,
            "lost": len(verdict.lost),
            "doubled": len(verdict.doubled),
            "differences": len(verdict.differences),
            "shown": [*verdict.lost[:SHOWN], *verdict.doubled[:SHOWN], *verdict.differences[:SHOWN]],
        },
        **({"chaos": further} if further else {}),
        "memory": run.census.report(),
        "load_average_before": load_before,
    }


def _journal(journal: Journal, seconds: float) -> dict[str, Any]:
    return {
        "deliveries": journal.deliveries,
        "acknowledged_webhooks": len(journal.acknowledged),
        "deliveries_per_second": round(journal.deliveries / seconds, 1),
        "retries": journal.retries,
        "answers": dict(journal.answers.most_common()),
        "surprises": journal.surprises[:SHOWN],
        "latencies": journal.latencies(),
    }


if __name__ == "__main__":
    main()
