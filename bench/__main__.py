"""`python -m bench`: which suites, how long, and where the report goes."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
import orjson

from bench import machine, report
from bench.options import Options
from bench.results import Findings
from bench.stack import Stack, say
from bench.suites import ingest, processors, replay
from schemas.errors import RedriveError

SUITES: Final[dict[str, Callable[[Stack, Options], Awaitable[Findings]]]] = {
    "ingest": ingest.measure,
    "processors": processors.measure,
    "replay": replay.measure,
}
OUT: Final = Path("docs/reference/benchmarks.md")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("suite", type=click.Choice([*SUITES, "all"]), default="all")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Fewer than 3 are no result.")
@click.option("--seconds", type=click.IntRange(1), default=10, show_default=True, help="One load run of the ingress.")
@click.option("--connections", type=int, multiple=True, default=(64, 256), show_default=True, help="Repeatable.")
@click.option("--events", type=click.IntRange(6), default=200_000, show_default=True, help="On the log to be folded.")
@click.option("--stock-events", type=click.IntRange(1), default=30_000, show_default=True, help="For Faust's take().")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=OUT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print every sample as one JSON document.")
def main(suite: str, out: Path, as_json: bool, **options: Any) -> None:
    """Measure redrive against its ceilings, on a Kafka and a Postgres of the run's own. Needs `wrk` for `ingest`."""
    # The client reports every try to connect to a broker that is still starting.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    names = list(SUITES) if suite == "all" else [suite]
    try:
        found, facts = asyncio.run(_measure(names, Options(**options)))
    except RedriveError as error:
        raise click.ClickException(str(error)) from error
    report.write(out, facts, found)
    say(f"written to {out}")
    if as_json:
        document = {"machine": facts, "suites": [one.as_document() for one in found]}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        click.echo("\n".join(report.section(one, facts) for one in found))


async def _measure(names: list[str], options: Options) -> tuple[list[Findings], machine.Machine]:
    load = os.getloadavg()[0]
    async with Stack() as stack:
        facts = machine.describe(await stack.postgres_version(), load)
        return [await SUITES[name](stack, options) for name in names], facts


if __name__ == "__main__":
    main()
