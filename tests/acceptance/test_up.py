"""`redrive up` as a newcomer meets it: sample rows, a fast second start that finds its data, clear refusals."""

import asyncio
import os
import re
import shlex
import signal
import socket
import stat
import time
from pathlib import Path

import asyncpg
import pytest

from tests.support.processes import Installation
from tests.support.signing import SECRETS

README = (Path(__file__).parents[2] / "README.md").read_text()
(BLOCK,) = re.findall(r"^## Try it$.*?^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
TRY_IT = [shlex.split(line) for line in re.findall(r"^redrive (.+)$", BLOCK, re.MULTILINE)]


async def test_up_ends_with_sample_rows_stops_cleanly_and_finds_its_data_again(tmp_path: Path) -> None:
    installation = Installation(tmp_path, SAMPLE="1")
    try:
        await installation.up()
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        for table in ("messages", "subscriptions", "credits", "calls"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") > 0, table
        events = await connection.fetchval("SELECT count(*) FROM webhook_events")
        await connection.close()
        env = tmp_path / ".redrive" / "env"
        assert stat.S_IMODE(env.stat().st_mode) == 0o600
        assert all(line.startswith("export ") and "'" not in line for line in env.read_text().splitlines())
        before = env.read_text()
        assert await installation.stop() == 0

        await installation.up()
        # The log is not empty any more: no samples, the same secrets, the same rows.
        assert env.read_text().splitlines()[2:] == before.splitlines()[2:]
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        assert await connection.fetchval("SELECT count(*) FROM webhook_events") == events
        await connection.close()
        said = {command[0]: (await installation.redrive(*command))[1] for command in TRY_IT}
        assert "20 of 20 accepted" in said["send"]
        assert '"verdict": "equal"' in said["prove"]
        assert "no read model differs" in said["rebuild"]
        assert "redrive rebuild drop 2" in said["rebuild"]
        assert "trying it" in said["audit"]
    finally:
        await installation.stop()


async def test_a_second_up_on_the_same_folder_is_refused_and_a_port_in_use_is_named(installation: Installation) -> None:
    code, out = await installation.redrive("up", expect=None)
    assert code == 69
    assert "another `redrive up`" in out
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = installation.folder / "other"
        other.mkdir()
        second = Installation(other, INGEST_PORT=str(taken.getsockname()[1]))
        started = time.monotonic()
        code, out = await second.redrive("up", expect=None)
        assert (code, "INGEST_PORT" in out) == (78, True)
        assert time.monotonic() - started < 60
        assert not (other / ".redrive" / "kafka").exists(), "nothing is half-started"


@pytest.mark.thorough
async def test_when_up_is_killed_its_children_die_with_it(tmp_path: Path) -> None:
    import psutil

    installation = Installation(tmp_path, **SECRETS)
    await installation.up()
    assert installation.process is not None
    children = installation.children()
    assert len(children) >= 5
    installation.process.send_signal(signal.SIGKILL)
    await installation.process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 60)
    assert not alive
    try:
        await installation.up()
    finally:
        await installation.stop()


async def test_a_killed_service_is_started_again(installation: Installation) -> None:
    for service in ("console", "ingest", "processors"):
        pid = installation.service(service).pid
        await installation.kill(service)
        await installation.until_ready(service)
        assert installation.service(service).pid != pid


async def test_commands_exit_with_what_is_wrong(installation: Installation, tmp_path: Path) -> None:
    _, out = await installation.redrive("check")
    assert "sound" in out
    assert "1 process; spool" in out
    found = (await installation.redrive_json("check"))["ingest"]
    assert (found["workers"], found["spool"]["held_bytes"]) == (1, 0)
    assert Path(found["spool"]["folder"]).is_dir()
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("send", "nobody"), 2, "no source is called"),
        (("replay", "plan"), 2, "never guesses"),
        (("replay", "plan", "--from", "soonish"), 2, "invalid time"),
        (("replay", "plan", "--offsets", "webhooks.stripe:99:0-1"), 2, "no partition"),
        (("events", "show", "stripe", "evt_none"), 1, "has no event"),
        (("replay", "show", "00000000-0000-0000-0000-000000000000"), 1, "no replay"),
        (
            ("events", "list", "--kafka", "127.0.0.1:1", "--database", "postgresql://nobody@127.0.0.1:1/x"),
            69,
            "Postgres does not answer",
        ),
        (("topics", "--kafka", "127.0.0.1:1"), 69, "Kafka does not answer"),
        (("frobnicate",), 2, "No such command"),
    ]
    for arguments, code, text in cases:
        found, out = await installation.redrive(*arguments, expect=None)
        assert (found, text in out) == (code, True), f"{arguments}: {found} {out}"
    installation.environment["STRIPE_WEBHOOK_SECRT"] = "x"
    _, out = await installation.redrive("check")
    assert "did you mean STRIPE_WEBHOOK_SECRET" in out
    installation.environment["DEDUPE_WINDOW"] = "soon"
    code, out = await installation.redrive("check", expect=None)
    assert (code, "DEDUPE_WINDOW" in out) == (78, True)


async def test_production_refuses_to_start_half_configured(tmp_path: Path) -> None:
    bare = Installation(tmp_path, APP_ENV="production")
    for name in SECRETS:
        bare.environment.pop(name, None)
    code, out = await bare.redrive("ingest", expect=None)
    assert (code, "ADMIN_API_KEY" in out) == (78, True)
    bare.environment["ADMIN_API_KEY"] = "sixteen letters!"
    code, out = await bare.redrive("ingest", expect=None)
    assert (code, "needs a source" in out) == (78, True)
    assert os.listdir(tmp_path) == []
