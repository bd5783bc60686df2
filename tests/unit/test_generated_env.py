"""`.redrive/env` keeps what was generated, whatever shell `redrive up` is started from next."""

import asyncio
from pathlib import Path

import pytest
from dotenv import dotenv_values

from deploy.commands.up import _write_env
from deploy.embedded.backends import Speaker, backends
from deploy.embedded.embedded_postgres import EmbeddedPostgres
from deploy.embedded.local import embedded_addresses
from deploy.wiring import LISTENING, generated_env, load
from schemas.settings import VARIABLES, Settings

ADDRESSES = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql:///one"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing is set and no `.env` is."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path) -> dict[str, str | None]:
    _write_env(folder, Settings(data=folder), ADDRESSES)
    return dotenv_values(generated_env(folder))


def test_a_shell_that_sourced_it_takes_nothing_out_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(folder)
    assert {"STRIPE_WEBHOOK_SECRET", "TELNYX_PRIVATE_KEY", "TOKEN_DIGEST_KEY", "ADMIN_API_KEY"} <= first.keys()
    for name, value in first.items():
        assert value is not None
        monkeypatch.setenv(name, value)
    assert write(folder) == first


def test_a_secret_of_the_user_is_not_written_into_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(folder)
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_of_the_user")
    monkeypatch.setenv("TELNYX_PUBLIC_KEY", "of the user")
    given = {"STRIPE_WEBHOOK_SECRET", "TELNYX_PUBLIC_KEY", "TELNYX_PRIVATE_KEY"}
    assert write(folder) == {name: value for name, value in first.items() if name not in given}


async def test_servers_that_are_set_stay_the_ones_that_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the second start, when `.redrive/env` names them as well."""
    for name, value in ADDRESSES.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        async with backends(folder, asyncio.Event(), Speaker(print, print)) as addresses:
            assert addresses == ADDRESSES
        write(folder)


def test_a_shell_that_sourced_the_embedded_addresses_names_no_servers_of_its_own(folder: Path) -> None:
    assert embedded_addresses(folder) == {}
    (folder / "kafka").mkdir()
    (folder / "kafka" / "kafka-port").write_text("20001")
    (folder / "postgres").mkdir()
    found = embedded_addresses(folder)
    assert found["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:20001"
    assert found["DATABASE_URL"] == EmbeddedPostgres(folder / "postgres", folder / "log", print).url()


def test_commands_in_other_terminals_find_the_ports_that_a_start_was_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRIVE_DATA", str(folder))
    with monkeypatch.context() as here:
        here.setenv("INGEST_PORT", "9090")
        _write_env(folder, load(is_for_up=True).settings, ADDRESSES)
    assert dotenv_values(generated_env(folder))["INGEST_PORT"] == "9090"
    assert (load().settings.ingest_port, load().settings.console_port) == (9090, 8081)
    # The next start listens where it says, and not where this one did.
    assert load(is_for_up=True).settings.ingest_port == 8080
    assert set(LISTENING) <= dotenv_values(generated_env(folder)).keys()
