"""A spool of a test, and records for it."""

import asyncio
import os
from pathlib import Path

from ingest.log.record_batch import LogRecord, VerifiedRecord
from ingest.spool.segment import SpooledRecord
from ingest.spool.spool import Spool

MEBIBYTE = 1024 * 1024


def spooled(number: int, size: int = 100) -> SpooledRecord:
    headers = [("ce_id", b"evt"), ("http_x", bytes(range(256)))]
    record = LogRecord(
        "webhooks.stripe", f"evt_{number}".encode(), os.urandom(size), 1_700_000_000_000 + number, headers
    )
    return SpooledRecord(VerifiedRecord(record), bytes([number % 256]) * 32)


def opened(folder: Path, max_bytes: int = MEBIBYTE) -> tuple[Spool, list[SpooledRecord]]:
    found = Spool(folder, max_bytes)
    return found, list(found.open())


async def kept(spool: Spool, *records: SpooledRecord) -> list[bool]:
    loop = asyncio.get_running_loop()
    outcomes = [loop.create_future() for _ in records]
    for record, outcome in zip(records, outcomes, strict=True):
        spool.put(record, outcome.set_result)
    return list(await asyncio.gather(*outcomes))


async def written(folder: Path, count: int) -> list[SpooledRecord]:
    spool, _ = opened(folder)
    records = [spooled(number) for number in range(count)]
    assert await kept(spool, *records) == [True] * count
    await spool.stop()
    return records


def segment(folder: Path) -> Path:
    return next(folder.glob("segment-*.spool"))


async def reopened(folder: Path) -> list[SpooledRecord]:
    spool, records = opened(folder)
    await spool.stop()
    return records
