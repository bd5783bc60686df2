"""Nobody speaks with Kafka by an address alone: settings that agree become a cluster, and clients are made from that."""

import ast
from pathlib import Path
from typing import Any

import pytest

from deploy.cluster import cluster_of
from schemas.errors import Misconfigured
from schemas.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("ingest", "processors", "replay", "deploy")
CLIENTS = {"AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient"}
LOGIN = {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "us", "kafka_sasl_password": "secret"}


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers="kafka:9092", **values)


def clients_made() -> list[tuple[str, ast.Call]]:
    """(place, call) of every client that the product makes."""
    found = []
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS:
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_every_client_is_made_from_a_cluster() -> None:
    calls = clients_made()
    assert len(calls) >= 9
    for place, call in calls:
        unpacked = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
        assert any(one.endswith(".client_options()") for one in unpacked), place
        assert "bootstrap_servers" not in {keyword.arg for keyword in call.keywords}, place


@pytest.mark.parametrize(
    ("values", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"kafka_security_protocol": "SSL"}, "SSL"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT", **LOGIN}, "SASL_PLAINTEXT"),
        ({"kafka_security_protocol": "SASL_SSL", **LOGIN}, "SASL_SSL"),
    ],
)
def test_the_protocol_is_what_was_set(values: dict[str, object], protocol: str) -> None:
    cluster = cluster_of(settings(**values))
    options = cluster.client_options()
    assert options["security_protocol"] == protocol
    assert options["bootstrap_servers"] == "kafka:9092"
    assert (options["ssl_context"] is not None) is protocol.endswith("SSL")
    assert options.get("sasl_plain_password") == ("secret" if "SASL" in protocol else None)
    assert "secret" not in repr(cluster)


def test_a_certificate_is_always_checked_and_so_is_its_name() -> None:
    context = cluster_of(settings(kafka_security_protocol="SSL")).ssl_context
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"


@pytest.mark.parametrize("missing", LOGIN)
def test_half_a_login_names_the_other_half(missing: str) -> None:
    login = {name: value for name, value in LOGIN.items() if name != missing}
    with pytest.raises(Misconfigured, match=rf"SASL_SSL needs {missing.upper()}$"):
        cluster_of(settings(kafka_security_protocol="SASL_SSL", **login))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (LOGIN, "is PLAINTEXT; set it to SASL_SSL"),
        ({"kafka_ssl_cafile": "/ca.pem"}, "KAFKA_SSL_CAFILE would not be used.*is PLAINTEXT; set it to SSL"),
        ({"kafka_security_protocol": "SSL", **LOGIN}, "is SSL; set it to SASL_SSL"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": "/ca.pem", **LOGIN}, "set it to SASL_SSL"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "/key.pem"}, "need KAFKA_SSL_CERTFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_cafile": "/nowhere.pem"}, "cannot load KAFKA_SSL_CAFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_certfile": "/nowhere.pem"}, "KAFKA_SSL_CERTFILE or"),
    ],
)
def test_what_would_not_be_used_is_no_silent_protection(values: dict[str, object], words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        cluster_of(settings(**values))
