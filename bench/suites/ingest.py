"""The ingress against an aiohttp application that does nothing, under the very same requests."""

from typing import Final

from bench.options import Options
from bench.results import Comparison, Findings
from bench.server_runs import Server, measure_servers, server_notes
from bench.stack import Stack
from bench.subject import module

TITLE: Final = "Ingress: POST of a 1 KB Stripe-like body, on the log (`acks=all`) before the 200"


def redrive(name: str, processes: int) -> Server:
    return Server(name, module("deploy", "ingest"), processes, dedupes=True)


def noop(name: str, processes: int) -> Server:
    return Server(name, module("bench.subjects.noop"), processes, appends=False)


REDRIVE: Final = redrive("redrive ingest", 1)
REDRIVE_PAIR: Final = redrive("redrive ingest, 2 processes", 2)
NOOP: Final = noop("aiohttp, reads and answers", 1)
NOOP_PAIR: Final = noop("aiohttp, reads and answers, 2 processes", 2)
SERVERS: Final = (REDRIVE, REDRIVE_PAIR, NOOP, NOOP_PAIR)
COMPARISONS: Final = (Comparison(REDRIVE.name, NOOP.name), Comparison(REDRIVE_PAIR.name, NOOP_PAIR.name))


async def measure(stack: Stack, options: Options) -> Findings:
    samples = await measure_servers(stack, options, SERVERS)
    return Findings(
        name="ingest",
        title=TITLE,
        unit="requests",
        samples=tuple(samples),
        comparisons=COMPARISONS,
        notes=server_notes(samples),
    )
