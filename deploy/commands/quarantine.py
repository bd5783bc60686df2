"""`redrive quarantine list | release`: deliveries whose signature failed, and verifying them again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

import click

from deploy.appending import appending
from deploy.cli import Commands, examples, json_option, run, with_runtime
from deploy.terminal.output import out, print_json, print_table, progress, say
from deploy.wiring import Runtime, connected
from replay.audit import Author
from replay.operations.quarantine import Holdings, Order, Quarantine, Release, of_source
from replay.selection import iso_of
from replay.window import LogReader
from schemas.errors import InvalidSelection

_MINUTES_SHOWN: Final = 20


@click.group(cls=Commands)
def quarantine() -> None:
    """Deliveries whose signature failed: after a wrong secret is fixed, none of them is lost."""


@asynccontextmanager
async def _opened(runtime: Runtime) -> AsyncIterator[Quarantine]:
    async with connected(runtime.settings) as connection, LogReader(runtime.cluster()) as reader:
        yield Quarantine(reader, connection, runtime.sources, runtime.settings.public_url)


@quarantine.command("list", epilog=examples("redrive quarantine list --source stripe"))
@click.option("--source", help="Of one source.")
@json_option
@with_runtime
def list_quarantine(runtime: Runtime, source: str | None, as_json: bool) -> None:
    """What is held, by source: how many would verify with today's secrets, and what the limits kept out."""

    async def read() -> dict[str, Holdings]:
        async with _opened(runtime) as opened:
            with progress() as bar:
                task = bar.add_task("reading the quarantine", total=None)
                return await opened.holdings(lambda offsets: bar.advance(task, offsets))

    found = dict(sorted(run(read()).items()))
    if source is not None:
        found = of_source(found, source, runtime.sources)
    if as_json:
        print_json({"sources": {name: one.as_document() for name, one in found.items()}})
        return
    print_table(
        ("source", "held", "released", "verify now", "first arrival", "last arrival", "kept out by the limits"),
        [
            (
                name,
                one.held,
                one.released,
                one.verify_now,
                iso_of(one.first_ms),
                iso_of(one.last_ms),
                sum(one.dropped.values()) or "",
            )
            for name, one in found.items()
        ],
    )
    minutes = sorted((minute, name, count) for name, one in found.items() for minute, count in one.dropped.items())
    if minutes:
        out.print()
        print_table(
            ("minute", "source", "kept out"),
            [(iso_of(minute), name, count) for minute, name, count in minutes[-_MINUTES_SHOWN:]],
        )


@quarantine.command(
    "release",
    epilog=examples(
        "redrive quarantine release --source stripe --dry-run",
        "redrive quarantine release --source stripe --reason 'the secret was wrong'",
    ),
)
@click.option("--source", "sources", multiple=True, required=True, help="Repeatable.")
@click.option("--dry-run", is_flag=True, help="Say what would be released; change nothing.")
@click.option("--reason", help="Why; goes into the audit.")
@json_option
@with_runtime
def release(runtime: Runtime, sources: tuple[str, ...], dry_run: bool, reason: str | None, as_json: bool) -> None:
    """Verify again with today's secrets, and append what passes, with its original arrival."""
    if unknown := sorted(set(sources) - set(runtime.sources)):
        raise InvalidSelection(f"no source is called {', '.join(unknown)}; there are: {', '.join(runtime.sources)}")
    done = run(_release(runtime, sources, dry_run, reason))
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
        return
    verb = "would be released" if dry_run else "released"
    say(f"{done.released} {verb}, {done.duplicates} further copies of them")
    say(f"{done.still_failing} still fail and stay out; {done.released_before} had been released before")


async def _release(runtime: Runtime, sources: Sequence[str], dry_run: bool, reason: str | None) -> Release:
    async with _opened(runtime) as opened:
        with progress() as bar:
            task = bar.add_task("verifying again", total=None)

            def advance(offsets: int) -> None:
                bar.advance(task, offsets)

            if dry_run:
                return await opened.release(sources, None, advance)
            async with appending(runtime.cluster()) as append:
                return await opened.release(sources, Order(Author(runtime.operator, reason), append), advance)


COMMANDS: Final[Sequence[click.Command]] = (quarantine,)
