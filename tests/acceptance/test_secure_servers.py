"""The whole path over TLS and logins: invariant 1 on servers that let nobody in who can't prove themselves."""

import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from schemas.cluster import Cluster, Login, SaslMechanism
from tests.support.certificates import Authority
from tests.support.processes import Installation
from tests.support.provider import Provider
from tests.support.secure import HOST, MECHANISMS, PASSWORD, USER, SecureKafka, SecurePostgres
from tests.support.signing import SECRETS
from tests.support.story import Author, write
from tests.support.tables import story_differences, until_folded

pytestmark = pytest.mark.thorough


@dataclass(frozen=True)
class Secure:
    kafka: SecureKafka
    postgres: SecurePostgres
    ours: Authority
    strangers: Authority
    client: tuple[Path, Path]

    def environment(self, protocol: str = "SASL_SSL", **changes: str) -> dict[str, str]:
        """What is right, but for `changes`; an empty value unsets."""
        url = self.postgres.remote_url(USER, PASSWORD, f"sslmode=verify-full&sslrootcert={self.ours.ca}")
        found = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.addresses[protocol],
            "KAFKA_SECURITY_PROTOCOL": protocol,
            "DATABASE_URL": url,
            **SECRETS,
        }
        if protocol.startswith("SASL"):
            found |= {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": USER}
            found["KAFKA_SASL_PASSWORD"] = PASSWORD
        if protocol.endswith("SSL"):
            found["KAFKA_SSL_CAFILE"] = str(self.ours.ca)
        if protocol == "SSL":
            found |= {"KAFKA_SSL_CERTFILE": str(self.client[0]), "KAFKA_SSL_KEYFILE": str(self.client[1])}
        return found | changes


@pytest.fixture(scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    folder = tmp_path_factory.mktemp("secure")
    ours, strangers = Authority(folder / "ours", "our-ca"), Authority(folder / "strangers", "strangers-ca")
    kafka, postgres = SecureKafka(folder, ours, print), SecurePostgres(folder, ours, print)
    try:
        await postgres.start()
        await kafka.start()
        admin = await asyncpg.connect(postgres.url())
        await admin.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        await admin.execute(f"ALTER DATABASE redrive OWNER TO {USER}")
        await admin.close()
        yield Secure(kafka, postgres, ours, strangers, ours.sign("redrive-client"))
    finally:
        await kafka.stop()
        await postgres.stop()


async def prepared(secure: Secure, folder: Path, protocol: str) -> Installation:
    installation = Installation(folder, **secure.environment(protocol))
    await installation.redrive("migrate", "--apply")
    await installation.redrive("topics", "--apply")
    return installation


async def test_a_signed_delivery_becomes_rows_over_tls_and_logins(secure: Secure, tmp_path: Path) -> None:
    installation = await prepared(secure, tmp_path, "SASL_SSL")
    found = await installation.redrive_json("check")
    assert found["kafka"].endswith("SASL_SSL, as redrive by SCRAM-SHA-512")
    assert found["database"] == "as redrive, TLSv1.3"
    world = write(Author(21, start=1_750_000_000), 3)
    async with (
        installation.serving("ingest", INGEST_WORKERS="2"),
        installation.serving("processors"),
        installation.serving("console"),
    ):
        await Provider(installation.ingest_url).deliver_all(world.webhooks)
        connection = await asyncpg.connect(secure.postgres.url())
        try:
            await until_folded(connection, world.events)
            assert await story_differences(connection, world) == []
        finally:
            await connection.close()
        replay = await installation.redrive_json("replay", "run", "--from", "2020-01-01", "--reason", "over TLS")
        assert replay["rows_changed"] == 0
        await installation.redrive("sources", "pause", "stripe", "--reason", "over TLS")
        assert (await installation.redrive_json("sources", "list"))["sources"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
async def test_every_mechanism_logs_in(secure: Secure, protocol: str, mechanism: SaslMechanism) -> None:
    context = ssl.create_default_context(cafile=secure.ours.ca) if protocol == "SASL_SSL" else None
    login = Login(mechanism, USER, SecretStr(PASSWORD))
    cluster = Cluster(secure.kafka.addresses[protocol], context, login)
    assert cluster.protocol == protocol
    admin = AIOKafkaAdminClient(**cluster.client_options())
    try:
        await admin.start()
        assert isinstance(await admin.list_topics(), Sequence)
    finally:
        await admin.close()


async def test_a_client_certificate_is_a_login(secure: Secure, tmp_path: Path) -> None:
    installation = await prepared(secure, tmp_path, "SSL")
    assert (await installation.redrive_json("check"))["kafka"].endswith(", SSL")
    async with installation.serving("processors"):
        pass


REFUSED = {
    "wrong password": ({"KAFKA_SASL_PASSWORD": "wrong"}, "refuses the login of redrive"),
    "mechanism that the broker lacks": ({"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "nobody"}, "refuses"),
    "certificate of a stranger's CA": ({"KAFKA_SSL_CAFILE": "strangers"}, "KAFKA_SSL_CAFILE names the CA"),
    "no CA file": ({"KAFKA_SSL_CAFILE": ""}, "KAFKA_SSL_CAFILE names the CA"),
    "half a login": ({"KAFKA_SASL_PASSWORD": ""}, "needs KAFKA_SASL_PASSWORD"),
    "a login that is not used": ({"KAFKA_SECURITY_PROTOCOL": "SSL"}, "would not be used"),
    "no protocol": ({"KAFKA_SECURITY_PROTOCOL": ""}, "set it to SASL_SSL"),
    "a CA file that is none": ({"KAFKA_SSL_CAFILE": "/dev/null"}, "cannot load KAFKA_SSL_CAFILE"),
    "a key without a certificate": ({"KAFKA_SSL_KEYFILE": "/dev/null"}, "need KAFKA_SSL_CERTFILE"),
    "a protocol of nobody's": ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
}


REPLAY = ("replay", "plan", "--from", "1h ago")


@pytest.mark.parametrize(
    ("case", "command"),
    [*((case, ("topics",)) for case in REFUSED), ("wrong password", ("ingest",)), ("wrong password", REPLAY)],
)
async def test_who_is_not_let_into_kafka_hears_why(
    secure: Secure, tmp_path: Path, case: str, command: tuple[str, ...]
) -> None:
    changes, words = REFUSED[case]
    if changes.get("KAFKA_SSL_CAFILE") == "strangers":
        changes = {"KAFKA_SSL_CAFILE": str(secure.strangers.ca)}
    _, text = await Installation(tmp_path, **secure.environment(**changes)).redrive(*command, expect=78)
    assert words in " ".join(text.split())
    assert PASSWORD not in text.split()


@pytest.mark.parametrize("listener", ["SASL_SSL", "SASL_PLAINTEXT", "SSL"])
async def test_the_wrong_listener_is_named(secure: Secure, tmp_path: Path, listener: str) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": secure.kafka.addresses[listener], "DATABASE_URL": secure.postgres.url()}
    _, text = await Installation(tmp_path, **SECRETS, **environment).redrive("topics", expect=69)
    assert "see whether its listener speaks PLAINTEXT (KAFKA_SECURITY_PROTOCOL)" in " ".join(text.split())


NOT_LET_IN = {
    "wrong password": (USER, "wrong", "sslmode=verify-full&sslrootcert={ours}", "password authentication failed"),
    "certificate of a stranger's CA": (USER, PASSWORD, "sslmode=verify-ca&sslrootcert={strangers}", "certificate"),
    "no TLS": (USER, PASSWORD, "sslmode=disable", "no encryption"),
    "no such CA file": (USER, PASSWORD, "sslmode=verify-full&sslrootcert=/nowhere.pem", "/nowhere.pem"),
    "no such mode": (USER, PASSWORD, "sslmode=verify", "sslmode"),
}


@pytest.mark.parametrize("command", ["migrate", "processors"])
@pytest.mark.parametrize("case", NOT_LET_IN)
async def test_who_is_not_let_into_postgres_hears_why(secure: Secure, tmp_path: Path, case: str, command: str) -> None:
    user, password, options, words = NOT_LET_IN[case]
    url = secure.postgres.remote_url(user, password, options.format(ours=secure.ours.ca, strangers=secure.strangers.ca))
    _, text = await Installation(tmp_path, **secure.environment(DATABASE_URL=url)).redrive(command, expect=78)
    assert words in " ".join(text.split())
    assert f":{password}@" not in text


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_migrations_take_every_tls_mode(secure: Secure, tmp_path: Path, mode: str) -> None:
    admin = await asyncpg.connect(secure.postgres.url())
    name = f"tls_{mode.replace('-', '_')}"
    await admin.execute(f"CREATE DATABASE {name} OWNER {USER}")
    await admin.close()
    root = "" if mode == "require" else f"&sslrootcert={secure.ours.ca}"
    url = secure.postgres.remote_url(USER, PASSWORD, f"sslmode={mode}{root}", name)
    await Installation(tmp_path, **secure.environment(DATABASE_URL=url)).redrive("migrate", "--apply")


async def test_verify_full_wants_the_name_that_the_certificate_was_made_for(secure: Secure, tmp_path: Path) -> None:
    options = f"sslmode=verify-full&sslrootcert={secure.ours.ca}"
    url = secure.postgres.remote_url(USER, PASSWORD, options).replace(HOST, "localhost")
    _, text = await Installation(tmp_path, **secure.environment(DATABASE_URL=url)).redrive("migrate", expect=78)
    assert "Hostname mismatch" in " ".join(text.split())
