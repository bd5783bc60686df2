"""The ingress against an aiohttp application that does nothing, under the very same requests."""

import asyncio
import re
import time
from typing import Final

import aiohttp

from bench.load import Load, require_wrk, run_load
from bench.options import Options
from bench.requests import RequestFile, write_requests
from bench.results import Comparison, Findings, Sample
from bench.stack import Stack, say
from bench.subject import Subject, environment, running, wait_until_ready
from deploy.local import free_port
from schemas.errors import Unavailable

NOOP: Final = "aiohttp, reads and answers"
REDRIVE: Final = "redrive ingest"
MAX_PER_SECOND: Final = 40_000
"""How many requests are signed per second of load; more than one process answers."""

SETTLE_SECONDS: Final = 10.0
BUSY_LIMIT: Final = 0.9
_REQUESTS: Final = re.compile(
    r'^redrive_ingest_requests_total\{outcome="(\w+)",source="[\w-]+"\} ([\d.e+]+)$', re.MULTILINE
)


async def measure(stack: Stack, options: Options) -> Findings:
    require_wrk()
    samples: list[Sample] = []
    warm_up = max(1, min(2, options.seconds // 2))
    try:
        # Round 0 counts for nobody: it warms the broker, whose JVM compiles its hot paths over the first minute.
        for number in range(options.rounds + 1):
            for connections in options.connections:
                # Signed right before: a signature holds for five minutes.
                path, count = stack.folder / "requests.bin", (options.seconds + warm_up) * MAX_PER_SECOND
                requests = await asyncio.to_thread(write_requests, path, count, time.time_ns())
                run = _Run(stack, number, connections, options.seconds, warm_up, requests)
                found = [await run.noop(), await run.redrive()]
                samples += found if number else []
                requests.path.unlink()
    finally:
        await stack.drop_topic()
    return Findings(
        name="ingest",
        title="Ingress: POST of a 1 KB Stripe-like body, on the log (`acks=all`) before the 200",
        unit="requests",
        samples=tuple(samples),
        comparisons=(Comparison(REDRIVE, NOOP),),
        notes=_notes(samples),
    )


def _notes(samples: list[Sample]) -> tuple[str, ...]:
    notes = [
        "wrk, one thread, keep-alive; every request has an event id and a signature of its own; both subjects get the"
        " same requests; one process each; a fresh process, topic and dedupe window for every figure. A first"
        " round, which warms the broker, is not counted.",
        "Every answer was a 200, and the log's end equals what redrive counted as accepted: no duplicate, no refusal.",
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

    async def noop(self) -> Sample:
        port = free_port()
        env = environment(self._stack, "noop")
        async with running(self._stack, "noop", "bench.subjects.noop", str(port), env=env) as subject:
            await wait_until_ready(subject, f"http://127.0.0.1:{port}/readyz")
            _, _, sample = await self._load(subject, port, NOOP)
            return sample

    async def redrive(self) -> Sample:
        await self._stack.fresh_topic()
        port = free_port()
        env = {**environment(self._stack, "ingest"), "INGEST_HOST": "127.0.0.1", "INGEST_PORT": str(port)}
        async with running(self._stack, "ingest", "deploy", "ingest", env=env) as subject:
            await wait_until_ready(subject, f"http://127.0.0.1:{port}/readyz")
            warm_up, load, sample = await self._load(subject, port, REDRIVE)
            if warm_up.wraps or load.wraps:
                raise Unavailable("the file of requests was too short: raise MAX_PER_SECOND")
            await self._check(port, warm_up.requests + load.requests)
            return sample

    async def _load(self, subject: Subject, port: int, name: str) -> tuple[Load, Load, Sample]:
        """The warm-up has a part of the file to itself, so that what is measured starts at the same request."""
        reserved = self._warm_up * MAX_PER_SECOND
        warm_up = await run_load(port, self._connections, self._warm_up, self._requests, 0)
        before = subject.cpu_seconds()
        load = await run_load(port, self._connections, self._seconds, self._requests, reserved)
        cpu = subject.cpu_seconds() - before
        for one in (warm_up, load):
            if one.refused or one.broken:
                raise Unavailable(f"{name}: {one.refused} requests refused, {one.broken} broken")
        rate = load.requests / load.seconds
        say(f"round {self._number}, {self._connections} connections, {name}: {rate:,.0f} requests/s")
        details = {"p50 ms": load.p50_ms, "p99 ms": load.p99_ms, "load generator": load.busy}
        case = f"{self._connections} connections"
        return warm_up, load, Sample(name, case, self._number, rate, cpu / load.requests * 1000, details)

    async def _check(self, port: int, answered: int) -> None:
        """What was answered is on the log, once; and what wrk gave up at its ends is all that may be there besides."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            outcomes = await _outcomes(port)
            on_log = await self._stack.log_end()
            accepted = outcomes.pop("accepted", 0)
            if accepted == on_log or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        in_flight = 2 * self._connections
        if any(outcomes.values()) or accepted != on_log or not answered <= on_log <= answered + in_flight:
            raise Unavailable(f"{answered} answers, {on_log} on the log, {accepted} accepted, besides: {outcomes}")


async def _outcomes(port: int) -> dict[str, int]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        text = await response.text()
    return {match[1]: int(float(match[2])) for match in _REQUESTS.finditer(text)}
