"""Configuration that can't work is refused in one sentence, when a service starts and when it reads it again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import service
from deploy.commands.check import near_misses
from deploy.embedded.dev_secrets import development_secrets
from deploy.wiring import adopt, load, variables_named
from processors import projections
from processors.fold import fold_record
from schemas import facts, topics
from schemas.envelope import Record
from schemas.errors import Misconfigured
from schemas.providers import PROVIDERS
from schemas.providers.base import Secrets
from tests.support.folding import letter_of
from tests.support.records import FakeRecord, payment, record
from tests.support.registries import put_back_afterwards

GOOD = '[sources.shop]\nprovider = "stripe"\nsecrets = ["whsec_of_the_shop"]\n'
BROKEN_TOML = {
    "not UTF-8": GOOD.encode() + b"# caf\xe9\n",
    "a secret that is no ASCII": '[sources.s]\nprovider = "standardwebhooks"\nsecrets = ["whsec_é"]\n'.encode(),
    "a secret without a key": b'[sources.s]\nprovider = "standardwebhooks"\nsecrets = ["whsec_"]\n',
    "an empty secret": b'[sources.s]\nprovider = "stripe"\nsecrets = [""]\n',
    "a blank secret beside a good one": b'[sources.s]\nprovider = "stripe"\nsecrets = ["whsec_number_one", " \\t"]\n',
    "a blank verify token": b'[sources.s]\nprovider = "whatsapp"\nsecrets = ["app-secret"]\nverify_token = ""\n',
}
BROKEN_ENV = {
    "not UTF-8": b"STRIPE_WEBHOOK_SECRET=caf\xe9\n",
    "a blank secret": b'STRIPE_WEBHOOK_SECRET=" , "\n',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one source in redrive.toml, in which the process started; nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for provider in PROVIDERS.values():
        monkeypatch.delenv(provider.secret_variable, raising=False)
    for name in ("REDRIVE_DATA", "REDRIVE_CONFIG", "APP_ENV"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "redrive.toml").write_text(GOOD)
    service.remember(load())
    with put_back_afterwards():
        yield tmp_path


def assert_refused(said: str | None = None) -> None:
    """The configuration as it is now is none, for a start and for a reload; and no exception ends the service."""
    before = service.RELOAD_FAILURES._value.get()
    assert service.read_again() is None
    assert service.RELOAD_FAILURES._value.get() == before + 1
    with pytest.raises(Misconfigured, match=said):
        service.load_again()


@pytest.mark.parametrize("fault", BROKEN_TOML)
def test_a_redrive_toml_that_can_not_work_is_refused(folder: Path, fault: str) -> None:
    (folder / "redrive.toml").write_bytes(BROKEN_TOML[fault])
    assert_refused()
    with pytest.raises(Misconfigured):
        load()


@pytest.mark.parametrize("fault", BROKEN_ENV)
@pytest.mark.parametrize("file", [".env", ".redrive/env"])
def test_an_env_file_that_can_not_work_is_refused(folder: Path, file: str, fault: str) -> None:
    (folder / ".redrive").mkdir()
    (folder / file).write_bytes(BROKEN_ENV[fault])
    assert_refused()
    with pytest.raises(Misconfigured):
        load()


def test_whatever_a_plug_in_raises_a_reload_refuses_it(folder: Path) -> None:
    (folder / "boom.py").write_text(
        "from dataclasses import replace\n"
        "from schemas.providers import PROVIDERS as OURS\n"
        "def check(secret): raise RuntimeError(secret)\n"
        'PROVIDERS = (replace(OURS["stripe"], name="boom", secret_variable="BOOM_SECRET", check_secret=check),)\n'
        'PROJECTIONS = {"boom": lambda record, payload: ()}\n'
    )
    (folder / "redrive.toml").write_text('plugins = ["boom"]\n' + GOOD.replace('"stripe"', '"boom"'))
    assert_refused(r"source shop \(BOOM_SECRET\), secret 1 can't be checked: RuntimeError at .*boom.py")


PLUG_IN = (
    "from dataclasses import replace\n"
    "from processors.projections.base import Event\n"
    "from schemas.providers import PROVIDERS as OURS\n"
    "def project(record, payload): yield Event(record.record_id, record.type, None)\n"
    'PROVIDERS = (replace(OURS["stripe"], name="{name}", secret_variable="ACME_SECRET"),)\n'
    'PROJECTIONS = {{"{name}": project, "stripe.{name}": project}}\n'
)
BROKEN_PLUG_INS = {
    "exit": "import sys; sys.exit(0)\n",
    "syntax": "def broken(:\n",
    "missing": None,
    "a module that it needs is missing": "import acme_client\n",
    "interrupted half-way": PLUG_IN + "TABLES = 7\n",
    "after it, another entry": PLUG_IN,
}


@pytest.mark.parametrize("fault", BROKEN_PLUG_INS)
def test_a_reload_that_fails_leaves_what_runs_and_reads_a_mended_plug_in(folder: Path, fault: str) -> None:
    before = (PROVIDERS.copy(), projections.PROJECTIONS.copy(), facts.TABLES.copy(), topics.PROVIDER_OF.copy())
    name = f"broken_{list(BROKEN_PLUG_INS).index(fault)}"
    text = BROKEN_PLUG_INS[fault]
    if text is not None:
        (folder / f"{name}.py").write_text(text.format(name=name))
    mistake = "no_such_entry = 1\n" if fault == "after it, another entry" else ""
    (folder / "redrive.toml").write_text(f'plugins = ["{name}"]\n{mistake}{GOOD}')
    assert_refused()
    assert before == (PROVIDERS, projections.PROJECTIONS, facts.TABLES, topics.PROVIDER_OF)

    (folder / f"{name}.py").write_text("# mended\n" + PLUG_IN.format(name=name))
    (folder / "redrive.toml").write_text(f'plugins = ["{name}"]\n{GOOD}')
    assert service.read_again() is not None
    assert projections.PROJECTIONS.keys() - before[1].keys() == {name, f"stripe.{name}"}
    assert topics.PROVIDER_OF["shop"] == "stripe"


def test_a_plug_in_that_brings_tables_waits_for_a_restart(folder: Path) -> None:
    """The processors have statements for the tables of their start, and the database may not have these."""
    (folder / "tables_1.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import Annotated\n"
        "from schemas.lattice import Fact, Key, Table\n"
        "@dataclass(frozen=True, slots=True, kw_only=True)\n"
        "class Contact(Fact):\n"
        "    contact_id: Annotated[str, Key()]\n"
        'TABLES = [Table("contacts", Contact)]\n'
    )
    (folder / "redrive.toml").write_text(f'plugins = ["tables_1"]\n{GOOD}')
    before = facts.TABLES.copy()
    assert_refused("plug-ins bring the tables contacts: run `redrive migrate --apply`, then restart the services")
    assert before == facts.TABLES
    load()
    assert service.read_again() is not None, "a process that started with them goes on"


@pytest.mark.parametrize("text", ["", "\n# nothing yet\n", None])
def test_a_file_that_is_being_written_does_not_drop_the_sources_that_it_gave(folder: Path, text: str | None) -> None:
    (folder / ".env").write_text("STRIPE_WEBHOOK_SECRET=whsec_number_one\n")
    file = folder / "redrive.toml"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert_refused("to do without shop, restart")
    assert set(load().sources) == {"stripe"}, "a start takes it"
    file.write_text(GOOD.replace("shop", "other"))
    found = service.read_again()
    assert found is not None
    assert set(found.sources) == {"stripe", "other"}, "a source can be taken out, one by one"


def test_a_reload_that_leaves_no_source_is_refused(folder: Path) -> None:
    (folder / "redrive.toml").write_text('[price_tiers]\nprice_1 = "pro"\n')
    assert_refused("no source at all")


@pytest.mark.parametrize("name", PROVIDERS)
def test_what_can_not_sign_for_a_target_is_refused_and_not_quoted(folder: Path, name: str) -> None:
    provider = PROVIDERS[name]
    keys = development_secrets({}, {})
    target = f'{GOOD}[replay.secrets."localhost:3000"]\n{name} = '
    (folder / "redrive.toml").write_text(
        target + json.dumps(keys[provider.signing_variable or provider.secret_variable])
    )
    load()
    wrong = ["short", "with white space", "é"]
    # The public half of a pair signs nothing.
    wrong += [keys[provider.secret_variable]] if provider.signing_variable else []
    for secret in wrong:
        (folder / "redrive.toml").write_text(target + json.dumps(secret, ensure_ascii=False))
        with pytest.raises(Misconfigured, match=rf'replay\.secrets\."localhost:3000"\], {name}: ') as refused:
            load()
        assert secret not in str(refused.value)
        assert_refused()


def test_blank_secrets_are_none() -> None:
    assert Secrets(("", " ", "whsec_1", "\n")).values == ("whsec_1",)


def test_a_variable_to_which_the_file_refers_is_no_misspelling(tmp_path: Path) -> None:
    file = tmp_path / "redrive.toml"
    file.write_text(
        '[sources.shop]\nprovider = "stripe"\nsecrets = ["${STRIPE_WEBHOOK_SECRET_2}"]\n'
        '[replay.secrets."localhost:3000"]\nstripe = "${STRIPE_WEBHOOK_SECRETS}"\n'
    )
    set_ones = ["STRIPE_WEBHOOK_SECRET_2", "STRIPE_WEBHOOK_SECRETS", "STRIPE_WEBHOOK_SECRT"]
    assert len(near_misses(set_ones)) == 3
    (warning,) = near_misses(set_ones, variables_named(file))
    assert warning == "STRIPE_WEBHOOK_SECRT is not a variable of redrive; did you mean STRIPE_WEBHOOK_SECRET?"


@pytest.mark.parametrize("text", [None, "no = toml = at all"])
def test_a_file_that_can_not_be_read_refers_to_nothing(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "redrive.toml"
    if text is not None:
        file.write_text(text)
    assert variables_named(file) == frozenset()


def decoded(one: FakeRecord) -> Record:
    return Record.decode(one.topic, one.partition, one.offset, one.timestamp, one.headers, one.value)


@pytest.mark.parametrize(
    ("source", "is_theirs"),
    [("shop", True), ("whatsapp", False), ("stripe", True), ("crm", False), ("former", True)],
)
def test_the_provider_of_a_record_is_that_of_its_topics_source(folder: Path, source: str, is_theirs: bool) -> None:
    """The name of a provider is a source of that provider, whichever secrets a process has. A source that is not
    configured any more is of whatever its records say.
    """
    crm = '[sources.crm]\nprovider = "hubspot"\nsecrets = ["secret-of-hubspot"]\n'
    (folder / "redrive.toml").write_text(GOOD + crm)
    adopt(load())
    one = record(f"webhooks.{source}", "stripe", payment(1))
    if is_theirs:
        assert decoded(one).provider == "stripe"
        assert fold_record(one).rows
    else:
        letter = letter_of(one)
        assert (letter.reason, letter.event.provider) == ("bad_envelope", "unknown")
        assert "another provider than the source's" in letter.message
