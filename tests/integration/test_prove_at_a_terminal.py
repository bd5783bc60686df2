"""What `redrive prove` and `why` show to people: at a terminal of 100 columns, with ids and locations whole."""

import asyncio
import json
import os
import pty
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import VARIABLES
from tests.conftest import Stack
from tests.support.proving import RECORDS

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
WIDTH = 100
Redrive = Callable[..., Awaitable[tuple[int, list[str], str]]]


def read_all(terminal: int) -> str:
    """Until nobody has the other end open."""
    found = b""
    try:
        while piece := os.read(terminal, 65536):
            found += piece
    except OSError:
        pass
    return found.decode()


@pytest.fixture
def redrive(stack: Stack, database_url: str, tmp_path: Path) -> Redrive:
    """The command at a terminal: its exit code, its lines without their colours, and the last one with them."""

    async def run(*arguments: str) -> tuple[int, list[str], str]:
        terminal, other_end = pty.openpty()
        given = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment = {
            **given,
            "DATABASE_URL": database_url,
            "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
            "REDRIVE_DATA": str(tmp_path),
            "REDRIVE_CONFIG": str(tmp_path / "none.toml"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "TERM": "xterm-256color",
            "COLUMNS": str(WIDTH),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy", *arguments, stdout=other_end, env=environment, cwd=tmp_path
        )
        os.close(other_end)
        text = await asyncio.to_thread(read_all, terminal)
        os.close(terminal)
        lines = text.replace("\r", "").rstrip().split("\n")
        assert [line for line in lines if len(_STYLE.sub("", line)) > WIDTH] == []
        return await process.wait(), [_STYLE.sub("", line).rstrip() for line in lines], lines[-1]

    return run


def cells(lines: list[str], first: str) -> list[list[str]]:
    """The rows of a table that begin with this cell."""
    rows = [re.split(r" {2,}", line.strip()) for line in lines]
    return [row for row in rows if row[0] == first and len(row) > 1]


async def test_a_terminal_shows_tables_differences_reasons_and_the_verdict(
    redrive: Redrive, folded: str, connection: Any, tmp_path: Path
) -> None:
    code, lines, last = await redrive("prove", "--out", "certificate.json")
    # Other tests' topics may be on the log, too: then it says how many of their records are not folded.
    assert (code, last.startswith("\x1b[1;32mequal")) == (0, True)
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    root = certificate["tables"]["payments"]["root"][:16]
    assert cells(lines, "table") == [["table", "rows", "root", "rows of the log", "root of the log"]]
    assert cells(lines, "payments") == [["payments", f"{RECORDS}", root, f"{RECORDS}", "the same"]]
    assert len([line for line in lines if line.endswith("the same")]) == len(certificate["tables"])
    assert cells(lines, "records") == [["records", f"{RECORDS}"]]
    assert cells(lines, "digest") == [["digest", certificate["digest"]]]

    await connection.execute("UPDATE gen_1.payments SET status = 'failed', amount = 1 WHERE payment_intent_id = 'pi_7'")
    code, lines, last = await redrive("prove")
    assert (code, last.startswith("\x1b[1;31mdifferent")) == (1, True)
    ((name, rows, other_root, log_rows, log_root),) = cells(lines, "payments")
    assert (name, rows, log_rows, log_root) == ("payments", f"{RECORDS}", f"{RECORDS}", root)
    assert other_root != root
    source = folded.removeprefix("webhooks.")
    assert f"changed payments {source} pi_7: status, amount" in lines
    await connection.execute("UPDATE gen_1.payments SET source = source || 'x'")
    _, lines, _ = await redrive("prove")
    assert f"… {2 * RECORDS} in all" in lines

    await connection.execute("TRUNCATE gen_1.payments")
    await connection.execute("INSERT INTO redrive.lost_ranges VALUES (1, $1, 0, 25, 29)", folded)
    code, lines, last = await redrive("prove")
    assert (code, last.startswith("\x1b[1;33mincomplete")) == (1, True)
    assert f"not known: {folded}/0: offsets 25 to 28 were lost; nobody knows all that was there" in lines


async def test_a_terminal_shows_what_is_not_as_a_certificate_says(
    redrive: Redrive, folded: str, tmp_path: Path
) -> None:
    path = tmp_path / "certificate.json"
    await redrive("prove", "--out", path.name)
    path.write_text(path.read_text().replace('"generation": 1', '"generation": 2'))
    code, lines, last = await redrive("prove", "--check", path.name)
    assert (code, last) == (1, "\x1b[1;31mdifferent\x1b[0m")
    assert "not so: the certificate was changed: its digest is not that of its content" in lines
    assert [row[-1] for row in cells(lines, "payments")] == ["the same"]


async def test_a_terminal_shows_why_a_row_is_as_it_is_record_by_record(redrive: Redrive, folded: str) -> None:
    code, lines, _ = await redrive("why", "payments", folded.removeprefix("webhooks."), "pi_7")
    assert code == 0
    (at,) = [place for place, line in enumerate(lines) if line.startswith(f"{folded}/1/2 ")]
    assert lines[at].endswith("stripe.payment_intent.succeeded")
    assert lines[at + 1] == "  event   evt_7"
    assert lines[at + 2].startswith("  says    ")
    assert any(line.startswith("  stands  ") for line in lines[at + 3 :])
    said = " ".join(line.strip() for line in lines[at + 2 :])
    assert "amount=100, " in said
