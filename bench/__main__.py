"""`python -m bench`: which suites, how long, and where the report goes."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import orjson

from bench import machine, report
from bench.options import Options
from bench.results import Findings
from bench.stack import Stack, say
from bench.suites import flood, ingest, live, peers_copy, peers_fold, peers_ingest, processors, prove, replay, window
from deploy.exit_codes import EXIT_FAILED, EXIT_UNAVAILABLE
from schemas.errors import RedriveError, Unavailable

SUITES: Final[dict[str, Callable[[Stack, Options], Awaitable[Findings]]]] = {
    "ingest": ingest.measure,
    "processors": processors.measure,
    "replay": replay.measure,
    "prove": prove.measure,
    "window": window.measure,
    "flood": flood.measure,
    "live": live.measure,
    "peers-ingest": peers_ingest.measure,
    "peers-fold": peers_fold.measure,
    "peers-copy": peers_copy.measure,
}
PAGES: Final = {"all": report.CEILINGS, "peers": report.PEERS}
"""By what measures all of a page."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("suite", type=click.Choice([*SUITES, *PAGES]), default="all")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Fewer than 3 are no result.")
@click.option("--seconds", type=click.IntRange(1), default=10, show_default=True, help="One load run of the ingress.")
@click.option("--connections", type=int, multiple=True, default=(64, 256), show_default=True, help="Repeatable.")
@click.option("--events", type=click.IntRange(6), default=200_000, show_default=True, help="On the log to be folded.")
@click.option("--stock-events", type=click.IntRange(1), default=30_000, show_default=True, help="For Faust's take().")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the event ids that the ingress gets.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: the suite's page in the docs.")
@click.option("--json", "as_json", is_flag=True, help="Print every sample as one JSON document.")
def main(suite: str, out: Path | None, as_json: bool, **arguments: Any) -> None:
    """Measure redrive against its ceilings (`all`), or against peers (`make bench-peers` installs them).

    On a Kafka and a Postgres of the run's own. Needs `wrk` for the ingress. Exit codes: 69 something is missing.
    """
    # The client reports every try to connect to a broker that is still starting.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    names = PAGES[suite].suites if suite in PAGES else (suite,)
    page = next(page for page in PAGES.values() if names[0] in page.suites)
    if out is not None:
        page = replace(page, path=out)
    options = Options(**arguments)
    try:
        found, facts = asyncio.run(_measure(names, options))
    except RedriveError as error:
        failure = click.ClickException(str(error))
        failure.exit_code = EXIT_UNAVAILABLE if isinstance(error, Unavailable) else EXIT_FAILED
        raise failure from error
    sections = {one.name: report.section(one, facts, options.command(one.name)) for one in found}
    report.write(page, sections)
    say(f"written to {page.path}")
    if as_json:
        document = {"machine": facts, "suites": [one.as_document() for one in found]}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        click.echo("\n".join(sections.values()))


async def _measure(names: Sequence[str], options: Options) -> tuple[list[Findings], machine.Machine]:
    load = os.getloadavg()[0]
    async with Stack() as stack:
        facts = machine.describe(await stack.postgres_version(), load)
        return [await SUITES[name](stack, options) for name in names], facts


if __name__ == "__main__":
    main()
