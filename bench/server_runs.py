"""Runs a subject that answers HTTP under a file of requests, and holds what it answered against the log."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.load import Load, require_wrk, run_load
from bench.options import Options
from bench.requests import RequestFile, write_requests
from bench.results import Sample
from bench.stack import TOPIC, Stack, say
from bench.subject import Subject, environment, running, wait_until_ready
from deploy.embedded.ports import free_ports
from schemas.errors import Unavailable

MAX_PER_SECOND: Final = 40_000
"""How many requests are signed per second of load; more than who dedupes answers."""

SETTLE_SECONDS: Final = 10.0
BUSY_LIMIT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Server:
    """`argv` starts it; it reads INGEST_HOST, INGEST_PORT, INGEST_WORKERS and BENCH_TOPIC, and answers `GET /readyz`.

    `processes` share the port. `appends`: each body is on the log before its 200. `dedupes`: a repeat would not be.
    """

    name: str
    argv: Sequence[str]
    processes: int = 1
    appends: bool = True
    dedupes: bool = False


async def measure_servers(stack: Stack, options: Options, servers: Sequence[Server]) -> list[Sample]:
    """Each in turn, in every round and with every number of connections."""
    require_wrk()
    samples: list[Sample] = []
    warm_up = max(1, min(2, options.seconds // 2))
    try:
        # Round 0 counts for nobody: it warms the broker, whose JVM compiles its hot paths over the first minute.
        for number in range(options.rounds + 1):
            for connections in options.connections:
                # Signed right before: a signature holds for five minutes, so those who verify stand first.
                path, count = stack.folder / "requests.bin", (options.seconds + warm_up) * MAX_PER_SECOND
                series = f"{options.seed}-{number}-{connections}-"
                requests = await asyncio.to_thread(write_requests, path, count, series)
                run = _Run(stack, number, connections, options.seconds, warm_up, requests)
                found = [await run.measure(server) for server in servers]
                samples += found if number else []
                path.unlink()
    finally:
        await stack.drop_topic()
    return samples


def server_notes(samples: Sequence[Sample]) -> tuple[str, ...]:
    notes = [
        "wrk, one thread, keep-alive; every request has an event id and a signature of its own; all subjects of a round"
        " get the same requests; a fresh process, topic and dedupe window for every figure. A first round, which warms"
        " the broker, is not counted. Processes share the port (`SO_REUSEPORT`).",
        "Every answer was a 200, and the log's end holds what was answered, besides what wrk gave up at its ends: no"
        " duplicate, no refusal.",
    ]
    if any(sample.details["load generator"] > BUSY_LIMIT for sample in samples):
        notes.append(
            "The load generator used more than nine tenths of a core in some runs: it may have been the limit."
        )
    return tuple(notes)


class _Run:
    """One file of requests, sent to each subject in turn."""

    def __init__(
        self, stack: Stack, number: int, connections: int, seconds: int, warm_up: int, requests: RequestFile
    ) -> None:
        self._stack = stack
        self._number = number
        self._connections = connections
        self._seconds = seconds
        self._warm_up = warm_up
        self._requests = requests

    async def measure(self, server: Server) -> Sample:
        if server.appends:
            await self._stack.fresh_topic()
        (port,) = free_ports(1)
        env = {
            **environment(self._stack, "server"),
            "INGEST_HOST": "127.0.0.1",
            "INGEST_PORT": str(port),
            "INGEST_WORKERS": str(server.processes),
            "BENCH_TOPIC": TOPIC,
        }
        async with running(self._stack, server.name, server.argv, env) as subject:
            await wait_until_ready(subject, port, server.processes)
            warm_up, load, sample = await self._load(subject, port)
            if server.dedupes and (warm_up.wraps or load.wraps):
                raise Unavailable("the file of requests was too short: raise MAX_PER_SECOND")
            if server.appends:
                await self._check(server.name, warm_up.requests + load.requests)
            return sample

    async def _load(self, subject: Subject, port: int) -> tuple[Load, Load, Sample]:
        """The warm-up has a part of the file to itself, so that what is measured starts at the same request."""
        reserved = self._warm_up * MAX_PER_SECOND
        warm_up = await run_load(port, self._connections, self._warm_up, self._requests, 0)
        before = subject.cpu_seconds()
        load = await run_load(port, self._connections, self._seconds, self._requests, reserved)
        cpu = subject.cpu_seconds() - before
        for one in (warm_up, load):
            if one.refused or one.broken:
                raise Unavailable(f"{subject.name}: {one.refused} requests refused, {one.broken} broken")
        rate = load.requests / load.seconds
        case = f"{self._connections} connections"
        say(f"round {self._number}, {case}, {subject.name}: {rate:,.0f} requests/s")
        details = {"p50 ms": load.p50_ms, "p99 ms": load.p99_ms, "load generator": load.busy}
        return warm_up, load, Sample(subject.name, case, self._number, rate, cpu / load.requests * 1000, details)

    async def _check(self, name: str, answered: int) -> None:
        """What was answered is on the log, once; and what wrk gave up at its ends is all that may be there besides."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (on_log := await self._stack.log_end()) < answered and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        if not answered <= on_log <= answered + 2 * self._connections:
            raise Unavailable(f"{name}: {answered} answers, {on_log} on the log")
