"""`redrive send`: signed samples to an ingress, and wait until their rows are seen."""

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import asyncpg
import click

from deploy.connections import connected
from deploy.event_loop import run
from deploy.exit_codes import EXIT_FAILED, Failed, Reported
from deploy.installation_audit import record_on_its_own
from deploy.reload import control_topic, in_state
from deploy.samples import Sample, samples, story_length
from deploy.terminal.command import json_option, with_runtime
from deploy.terminal.group import examples
from deploy.terminal.output import print_json, progress, say
from deploy.wiring import Runtime
from replay.answering import while_answering
from replay.selection.selection import require_known
from schemas.errors import LogUnavailable, Misconfigured, Unavailable
from schemas.masking import reason_of
from schemas.settings import Source

WAIT_SECONDS: Final = 60.0
ASK_AGAIN_SECONDS: Final = 0.5


def ingress_url(runtime: Runtime) -> str:
    host = runtime.settings.ingest_host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{runtime.settings.ingest_port}"  # noqa: S104


async def post(
    session: aiohttp.ClientSession, runtime: Runtime, source: Source, url: str, sample: Sample
) -> tuple[int, str | None]:
    """Sign one sample and post it; returns (status, record location)."""
    path = f"/webhooks/{source.name}{sample.path}"
    signed_url = (runtime.settings.public_url or url).rstrip("/") + path
    secret = source.signing_key or source.secrets.values[0]
    present = source.provider.present_token
    body = present(sample.body, secret) if present else sample.body
    signature = source.provider.sign(secret, signed_url, body, sample.content_type, int(time.time()))
    headers = {**sample.headers, **signature}
    try:
        async with session.post(url.rstrip("/") + path, data=body, headers=headers) as response:
            await response.read()
            return response.status, response.headers.get("Redrive-Record")
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
        raise _away(url, reason or reason_of(error)) from error


def _away(url: str, reason: str) -> Unavailable:
    return Unavailable(f"the ingress does not answer at {url} (another one: --url, or INGEST_PORT in .env): {reason}")


class _Ingress:
    """An ingress as a `Server`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self) -> None:
        while True:
            try:
                async with self._session.get(f"{self._url.rstrip('/')}/healthz"):
                    return
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(ASK_AGAIN_SECONDS)

    def silence(self, seconds: float) -> Unavailable:
        return _away(self._url, f"it has been silent for {seconds:g} s")


async def until_on_the_log(
    session: aiohttp.ClientSession, runtime: Runtime, source: Source, url: str, spooled: Sequence[Sample]
) -> list[str]:
    """The locations of samples that were spooled: once they are on the log, a copy's answer has it. Raises `Failed`."""
    deadline = time.monotonic() + WAIT_SECONDS
    locations: list[str] = []
    for sample in spooled:
        while (location := (await post(session, runtime, source, url, sample))[1]) is None:
            if time.monotonic() > deadline:
                missing = len(spooled) - len(locations)
                raise Failed(f"{missing} are still in the ingress' spool after {WAIT_SECONDS:.0f} s: does Kafka run?")
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        locations.append(location)
    return locations


async def wait_until_folded(connection: "asyncpg.Connection[asyncpg.Record]", locations: Sequence[str]) -> None:
    """Until the live positions are past every record. Raises `Failed` after a minute."""
    ends: dict[tuple[str, int], int] = {}
    for location in locations:
        topic, partition, offset = location.rsplit("/", 2)
        key = (topic, int(partition))
        ends[key] = max(ends.get(key, 0), int(offset) + 1)
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        rows = await connection.fetch(
            "SELECT topic, partition, next_offset FROM redrive.positions"
            " WHERE generation = (SELECT live FROM redrive.generation)"
        )
        positions = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        if all(positions.get(key, 0) >= end for key, end in ends.items()):
            return
        if time.monotonic() > deadline:
            raise Failed(
                f"the rows did not come within {WAIT_SECONDS:.0f} s: check that the processors run, and that no source"
                " is paused (`redrive sources list`)"
            )
        await asyncio.sleep(0.1)


async def paused_sources(runtime: Runtime) -> frozenset[str]:
    """Whose records are stored and not folded. Raises `Unavailable`."""
    return in_state(await control_topic(runtime.cluster()).states(), "paused")


async def _require_folding(runtime: Runtime, source: Source) -> None:
    """Raises `Failed` where waiting for rows would be in vain; without Kafka nobody knows, and the ingress spools."""
    try:
        paused = await paused_sources(runtime)
    except LogUnavailable:
        return
    if source.name in paused:
        raise Failed(
            f"{source.name} is paused: its deliveries are stored, and their rows appear after `redrive sources resume"
            f" {source.name}`; nothing was sent: leave out --wait to send them"
        )


@click.command(epilog=examples("redrive send stripe --count 20 --wait"))
@click.argument("source")
@click.option("--count", type=click.IntRange(min=1), help="How many; default one whole story of the provider.")
@click.option("--url", help="Ingress to post to; default this machine's INGEST_PORT.")
@click.option("--wait", is_flag=True, help="Wait until their rows are seen in Postgres.")
@click.option("--force", is_flag=True, help="Also in production, where samples become rows among real ones.")
@json_option
@with_runtime
def send(
    runtime: Runtime, source: str, count: int | None, url: str | None, wait: bool, force: bool, as_json: bool
) -> None:
    """Send signed samples to SOURCE."""
    if runtime.settings.app_env == "production" and not force:
        raise Misconfigured("this is production: samples would become rows among real ones; --force sends them")
    require_known([source], runtime.sources)
    found = runtime.sources[source]
    result = run(_send(runtime, found, count or story_length(found), url or ingress_url(runtime), wait))
    if as_json:
        print_json(result)
    else:
        spooled = f", {result['spooled']} of them spooled" if result["spooled"] else ""
        folded = spooled + (", their rows are there" if wait and result["accepted"] else "")
        say(f"{result['accepted']} of {result['sent']} accepted by {source}{folded}")
        if result["accepted"] != result["sent"]:
            say(str(result["statuses"]), f"{result['sent'] - result['accepted']} were refused:", "red")
    if result["accepted"] != result["sent"]:
        raise Reported(EXIT_FAILED)


async def _send(runtime: Runtime, source: Source, count: int, url: str, wait: bool) -> dict[str, Any]:
    statuses: dict[int, int] = {}
    locations: list[str] = []
    spooled: list[Sample] = []
    if runtime.settings.app_env == "production":
        await record_on_its_own(runtime, "samples.send", source=source.name, count=count)
    if wait:
        await _require_folding(runtime, source)
    timeout = aiohttp.ClientTimeout(total=30)
    with progress() as bar:
        task = bar.add_task(f"sending to {source.name}", total=count)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with while_answering(_Ingress(session, url)):
                for sample in samples(source, count):
                    status, location = await post(session, runtime, source, url, sample)
                    statuses[status] = statuses.get(status, 0) + 1
                    if location:
                        locations.append(location)
                    elif status == HTTPStatus.OK:
                        spooled.append(sample)
                    bar.advance(task)
            if wait:
                bar.update(task, description="waiting for the rows")
                locations += await until_on_the_log(session, runtime, source, url, spooled)
                async with connected(runtime.settings) as connection:
                    await wait_until_folded(connection, locations)
    return {
        "sent": count,
        "accepted": statuses.get(HTTPStatus.OK, 0),
        "spooled": len(spooled),
        "statuses": statuses,
        "records": locations,
    }
