"""A run of the tests that is killed leaves nothing behind: no process, and no file outside its temporary folder."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.support.processes import until_gone
from tests.support.waiting import limit, until

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
LONG = "tests/acceptance/test_up.py::test_a_killed_service_is_started_again"


def line_of(process: psutil.Process) -> str:
    """Empty for one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize("victim", ["runner", "worker"])
async def test_whoever_is_killed_the_servers_and_services_end(victim: str, tmp_path: Path) -> None:
    # Not below this run's own folder: a path of a socket has 107 characters at most.
    temporary = tempfile.mkdtemp(prefix="redrive-t", dir="/tmp")
    command = (sys.executable, "-m", "pytest", "-n", "1", LONG)
    environment = {**os.environ, "TMPDIR": temporary, "PYTEST_ADDOPTS": ""}
    with (tmp_path / "run.log").open("wb") as log:
        run = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    runner = psutil.Process(run.pid)

    def family() -> list[psutil.Process]:
        return runner.children(recursive=True)

    def everything_runs() -> bool:
        assert run.returncode is None, (tmp_path / "run.log").read_text()
        lines = [line_of(one) for one in family()]
        return all(any(word in line for line in lines) for word in ("kafka.Kafka", "postgres", "deploy console"))

    await until(everything_runs, "the servers and the services")
    # What nobody waits for any more is still in the process table for a moment.
    processes = family()
    before = set(Path("/tmp").iterdir())
    (runner if victim == "runner" else runner.children()[0]).kill()
    await until_gone(processes)
    if victim == "worker":
        runner.kill()
    async with limit("the runner ends"):
        await run.wait()
    assert {path for path in set(Path("/tmp").iterdir()) - before if path.name.startswith("redrive")} == set()
    shutil.rmtree(temporary, ignore_errors=True)
