"""A certificate is verified against the log, later and by whoever has it; one that was changed says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from replay.log.reader import LogReader
from replay.prove.certificate import Certificate, read_certificate
from replay.prove.shadow import RecordDigest
from replay.selection.selection import Range
from schemas.errors import InvalidSelection
from tests.conftest import Stack
from tests.support.proving import RECORDS, Prove, check
from tests.support.records import batch, produce


async def test_a_certificate_holds_against_the_log_whatever_became_of_the_tables(
    stack: Stack, folded: str, prove: Prove, connection: Any, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "certificate.json"
    path.write_text((await prove()).model_dump_json())
    await produce(stack.servers, batch(folded, range(RECORDS, RECORDS + 9)))
    await connection.execute("TRUNCATE gen_1.payments")
    made = read_certificate(path)
    again = await check(stack, database_url, made)
    assert (again.verdict, again.reasons, again.findings) == ("equal", [], [])
    assert again.certificate == made.digest
    bad = await prove()
    assert bad.verdict == "different"
    again = await check(stack, database_url, bad)
    assert again.verdict == "different"
    assert "payments: the rows of the certificate are not those of the log" in again.findings


def changed(document: Any, path: list[Any], value: Any) -> Certificate:
    document = json.loads(document)
    inner = document
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return Certificate.model_validate(document)


FORGED: list[tuple[list[Any], Any]] = [
    (["tables", "payments", "root"], "00" * 32),
    (["tables", "payments", "rows"], 61),
    (["counts", "records"], 61),
    (["counts", "dead_letters"], 1),
    (["counts", "events"], 99),
    (["positions", 1, "next_offset"], 19),
    (["positions", 1, "sha256"], "00" * 32),
    (["verdict"], "different"),
    (["made_at"], "2020-01-01T00:00:00Z"),
    (["versions"], {}),
]


async def test_a_certificate_that_was_changed_fails_also_where_its_digest_was_made_again(
    stack: Stack, folded: str, prove: Prove, database_url: str
) -> None:
    document = (await prove()).model_dump_json()
    for path, value in FORGED:
        forged = changed(document, path, value)
        found = await check(stack, database_url, forged)
        assert found.verdict == "different", path
        assert "the certificate was changed: its digest is not that of its content" in found.findings
    for path, value in FORGED[:4] + FORGED[5:8]:
        found = await check(stack, database_url, changed(document, path, value).sealed())
        assert found.verdict == "different", path


async def test_the_log_that_a_certificate_was_made_of_is_known_by_what_its_records_hold(
    stack: Stack, folded: str, prove: Prove, database_url: str, topic: str
) -> None:
    """Another log that gives the same rows is another log."""
    made = await prove()
    (first, *_) = made.positions
    records = batch(folded, range(RECORDS))
    again = RecordDigest()
    async with LogReader(stack.cluster) as reader:
        async for _, found in reader.read([Range(folded, 0, 0, 20)]):
            for one in found:
                again.add(one)
    assert again.hex() == first.sha256
    other = RecordDigest()
    for offset, one in enumerate(records[::3]):
        one.offset = offset
        other.add(one)
    assert other.records == again.records
    assert other.hex() != again.hex(), "they arrived at other times"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "redrive-certificate/2"}'])
def test_what_is_no_certificate_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "certificate.json"
    path.write_text(text)
    with pytest.raises(InvalidSelection, match="is no certificate"):
        read_certificate(path)
