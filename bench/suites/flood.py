"""One source under a flood, and what another source feels of it."""

import asyncio
from dataclasses import dataclass
from typing import Final

from bench.load import Load, require_wrk, run_load
from bench.options import Options
from bench.paced import post_paced
from bench.requests import RequestFile, write_requests
from bench.results import Comparison, Findings, Sample
from bench.stack import SOURCE, Stack, say
from bench.subject import SECRET, environment, module, running, wait_until_ready
from deploy.embedded.ports import free_ports
from schemas.errors import Unavailable
from schemas.providers import PROVIDERS
from schemas.topics import topic_of

OTHER: Final = "other"
"""The source that is not flooded."""

PER_SECOND: Final = 100
LIMIT: Final = 100
CONNECTIONS: Final = 256
MAX_PER_SECOND: Final = 25_000
"""How many requests are signed per second of flood; more than a process verifies."""

WARM_UP_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class Flood:
    """How the first source is flooded; `is_limited` gives it `requests_per_second`."""

    name: str
    is_there: bool = True
    is_forged: bool = False
    is_limited: bool = False


CALM: Final = Flood("no flood", is_there=False)
FLOODS: Final = (
    CALM,
    Flood("valid, no limit"),
    Flood("valid, limited", is_limited=True),
    Flood("forged, no limit", is_forged=True),
    Flood("forged, limited", is_forged=True, is_limited=True),
)


async def measure(stack: Stack, options: Options) -> Findings:
    require_wrk()
    samples: list[Sample] = []
    # Round 0 counts for nobody: it warms the broker.
    for number in range(options.rounds + 1):
        path = stack.folder / "flood.bin"
        series = f"flood-{options.seed}-{number}-"
        requests = await asyncio.to_thread(write_requests, path, options.seconds * MAX_PER_SECOND, series)
        turn = number % len(FLOODS)
        found = [await _run(stack, flood, number, options, requests) for flood in FLOODS[turn:] + FLOODS[:turn]]
        samples += found if number else []
        path.unlink()
    await stack.drop_topic()
    await stack.drop_topic(topic_of(OTHER))
    return Findings(
        name="flood",
        title="One source is flooded, and another is served",
        unit="deliveries",
        samples=tuple(sorted(samples, key=lambda one: [flood.name for flood in FLOODS].index(one.subject))),
        comparisons=tuple(Comparison(flood.name, CALM.name) for flood in FLOODS if flood is not CALM),
        notes=(
            f"One ingress process. wrk floods one source on {CONNECTIONS} connections, as fast as it is answered; a"
            f" paced client posts {PER_SECOND} valid deliveries a second to another source, on connections of its own."
            " The figures are the other source's: what was answered 2xx, and times from when a delivery was due.",
            f"`limited`: `requests_per_second = {LIMIT}` for the flooded source, which answers 429 before it verifies."
            " `forged`: no signature of the flood matches: 401, and the quarantine keeps what its limits allow.",
            "CPU is the ingress's, per 1k answers to both. wrk and the paced client share the cores with it and with"
            " the broker: what the other source feels is the machine's being full as well.",
        ),
    )


def _configuration(flood: Flood) -> str:
    secret = "whsec_of_nobody" if flood.is_forged else SECRET
    limit = f"requests_per_second = {LIMIT}\n" if flood.is_limited else ""
    return (
        f'[sources.{SOURCE}]\nprovider = "{SOURCE}"\nsecrets = ["{secret}"]\n{limit}'
        f'[sources.{OTHER}]\nprovider = "{SOURCE}"\nsecrets = ["{SECRET}"]\n'
    )


async def _run(stack: Stack, flood: Flood, number: int, options: Options, requests: RequestFile) -> Sample:
    await stack.fresh_topic()
    await stack.fresh_topic(topic_of(OTHER))
    (port,), config = free_ports(1), stack.folder / "flood.toml"
    config.write_text(_configuration(flood))
    env = {
        **environment(stack, "flood"),
        PROVIDERS[SOURCE].secret_variable: "",
        "REDRIVE_CONFIG": str(config),
        "INGEST_HOST": "127.0.0.1",
        "INGEST_PORT": str(port),
    }
    async with running(stack, "redrive ingest", module("deploy", "ingest"), env) as subject:
        await wait_until_ready(subject, port, 1)
        url = f"http://127.0.0.1:{port}/webhooks/{OTHER}"
        await post_paced(url, PER_SECOND, WARM_UP_SECONDS, f"warm-{number}-")
        before = subject.cpu_seconds()
        flooding: asyncio.Task[Load] | None = None
        if flood.is_there:
            flooding = asyncio.create_task(run_load(port, CONNECTIONS, options.seconds, requests, 0))
        paced = await post_paced(url, PER_SECOND, options.seconds, f"paced-{number}-")
        load = await flooding if flooding is not None else None
        cpu = subject.cpu_seconds() - before
    if load is not None and load.wraps and not (flood.is_limited or flood.is_forged):
        raise Unavailable("the file of requests was too short: raise MAX_PER_SECOND")
    rate = load.requests / load.seconds if load else 0.0
    details = {
        "2xx share": paced.durable / paced.due,
        "of them spooled": paced.spooled / max(paced.durable, 1),
        "p50 ms": paced.percentile_ms(50),
        "p99 ms": paced.percentile_ms(99),
        "flood/s": rate,
        "load generator": load.busy if load else 0.0,
    }
    say(f"round {number}, {flood.name}: p99 {details['p99 ms']:.1f} ms, flood {rate:,.0f}/s")
    answers = paced.due + (load.requests if load else 0)
    durable = paced.durable / options.seconds
    return Sample(flood.name, f"{PER_SECOND}/s", number, durable, cpu / answers * 1000, details)
