"""wrk, driven by a file of requests. Must not be the bottleneck, so it says how busy it was."""

import asyncio
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from bench.requests import RequestFile
from schemas.errors import Unavailable

_SCRIPT: Final = Path(__file__).with_name("load.lua")
_MARK: Final = b"BENCH "


class Load(NamedTuple):
    """What one run of wrk saw. `busy` is the share of one core that it used; `refused` counts statuses from 400 on."""

    requests: int
    seconds: float
    refused: int
    broken: int
    wraps: int
    p50_ms: float
    p99_ms: float
    busy: float


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise Unavailable("wrk is missing: `apt-get install wrk` (or your system's package of it)")


def wrk_version() -> str:
    """Its first words; it prints them with its usage, and fails."""
    require_wrk()
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[:2])


async def run_load(port: int, connections: int, seconds: int, requests: RequestFile, skip: int) -> Load:
    """Keep-alive connections, one thread: `seconds` of load from the request number `skip` on."""
    before = _children_cpu_seconds()
    process = await asyncio.create_subprocess_exec(
        "wrk",
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        "--timeout=10s",
        f"--script={_SCRIPT}",
        f"http://127.0.0.1:{port}/",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            **os.environ,
            "BENCH_REQUESTS": str(requests.path),
            "BENCH_REQUEST_BYTES": str(requests.size),
            "BENCH_SKIP": str(skip),
        },
    )
    output, _ = await process.communicate()
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if process.returncode != 0 or not lines:
        raise Unavailable(f"wrk failed: {output.decode(errors='replace')[-500:]}")
    found = orjson.loads(lines[0].removeprefix(_MARK))
    return Load(**found, busy=(_children_cpu_seconds() - before) / found["seconds"])


def _children_cpu_seconds() -> float:
    """Of children that have ended: between two calls that is wrk alone."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
