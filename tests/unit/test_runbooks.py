"""What the runbooks tell people to type does what they say."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

from ingest.log.record_batch import LogRecord, VerifiedRecord
from ingest.spool.segment import SpooledRecord
from ingest.spool.spool import Spool

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbooks" / "spool-damaged.md"


def record(number: int) -> SpooledRecord:
    found = LogRecord("webhooks.stripe", f"evt_{number}".encode(), b"{}", 1_700_000_000_000 + number, [])
    return SpooledRecord(VerifiedRecord(found), bytes([number]) * 32)


async def keep(spool: Spool, one: SpooledRecord) -> bool:
    outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    spool.put(one, outcome.set_result)
    return await outcome


async def test_what_was_set_aside_is_put_back_and_what_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "0"
    spool = Spool(folder, 1024 * 1024)
    assert list(spool.open()) == []
    assert await keep(spool, record(1))
    spool.set_aside(record(2), "too large")
    spool.set_aside(record(3), "too large")
    await spool.stop()

    (script,) = re.findall(r"^ *```sh\n(.*?)^ *```", RUNBOOK.read_text(), re.DOTALL | re.MULTILINE)
    subprocess.run(["sh", "-euc", script], check=True, env={**os.environ, "REDRIVE_DATA": str(tmp_path)})

    assert list((folder / "set-aside").iterdir()) == []
    again = Spool(folder, 1024 * 1024)
    assert list(again.open()) == [record(1), record(2), record(3)]
    assert await keep(again, record(4))
    await again.stop()
    last = Spool(folder, 1024 * 1024)
    assert list(last.open()) == [record(number) for number in (1, 2, 3, 4)]
    await last.stop()
