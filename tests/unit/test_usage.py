"""What is typed wrong is refused before anything is asked or changed, and says so in the form that was asked for."""

import json
import os
from asyncio.subprocess import PIPE
from pathlib import Path

import asyncpg
import pytest

from deploy.exit_codes import EXIT_USAGE, exit_codes, report_line
from schemas.settings import VARIABLES
from tests.support import forks

NOWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
CORRECT = ("correct", "account", "cus_1", "--source", "stripe", "--reason", "why")


async def redrive(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    """(exit code, standard output, standard error)"""
    given = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    process = await forks.redrive(*arguments, cwd=folder, env={**given, **NOWHERE}, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("flags", [(), ("--freeze", "--unfreeze")], ids=["neither", "both"])
async def test_an_account_is_neither_frozen_nor_unfrozen_by_a_word_that_is_missing(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    code, out, err = await redrive(tmp_path, *CORRECT, *flags)
    assert (code, out) == (2, ""), err
    assert "pass --freeze or --unfreeze" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay", "plan", "--from", "nonsense"), "invalid time 'nonsense'"),
        (("replay", "run", "--from", "1h ago"), "Missing option '--reason'"),
        (("replay", "run", "--from", "1h ago", "--reason", " "), "must not be blank"),
        (("replay", "pause", "xyz", "--reason", "why"), "invalid replay id 'xyz'"),
        (("rebuild", "--rollback", "--apply"), "--rollback and --as-of are mutually exclusive"),
        (("rebuild", "--accept-loss"), "accept_loss goes with"),
        (("rebuild", "--apply", "--generation", "2", "--rollback"), "mutually exclusive"),
        (("rebuild", "--only", "payments", "--as-of", "1h ago"), "mutually exclusive"),
        (("rebuild", "--generation", "2"), "--generation goes with --apply"),
        (("prove", "--accept-loss"), "--accept-loss needs --reason"),
        (("prove", "--accept-loss", "--reason", " "), "--accept-loss needs --reason"),
        (("prove", "--reason", "why"), "--reason goes with --accept-loss"),
        (CORRECT, "pass --freeze or --unfreeze"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[:2]),
)
async def test_a_program_is_told_of_wrong_usage_in_json(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = await redrive(tmp_path, *arguments, "--json")
    assert (code, err) == (2, "")
    answer = json.loads(out)
    assert answer["error"] == "usage"
    assert said in answer["message"]


def test_a_value_that_postgres_can_not_take_is_wrong_usage_and_no_outage() -> None:
    with pytest.raises(SystemExit) as ended, exit_codes(report_line):
        raise asyncpg.CharacterNotInRepertoireError("invalid byte sequence for encoding")
    assert ended.value.code == EXIT_USAGE
