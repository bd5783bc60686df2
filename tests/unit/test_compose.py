"""What `docker compose up` starts is what the code reads, listens on and counts."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import deploy.service  # noqa: F401 - declares its metrics
import ingest.metrics  # noqa: F401 - declares its metrics
import processors.metrics  # noqa: F401 - declares its metrics
import replay.metrics  # noqa: F401 - declares its metrics
from deploy.embedded.kafka_jars import KAFKA
from deploy.services.ingest import DRAIN_SECONDS
from schemas.providers import PROVIDERS
from schemas.settings import VARIABLES, Settings
from schemas.topics import MAX_RECORD_BYTES

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LISTENING = ("ingest", "processors", "console")
"""Their settings are `<name>_host` and `<name>_port`."""

DASHBOARD = ROOT / "deploy/grafana/dashboards/redrive.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"

_SCRAPED_LABELS = {"job", "instance", "le"}
_DEFAULT = re.compile(r"\$\{\w+:-(.*)\}\Z")
_REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
_VARIABLES = re.compile(r"\$__rate_interval\b")
_VALUES_OF = re.compile(r"label_values\((.+), \w+\)")


def unless_set(value: str) -> str:
    """What `${NAME:-value}` is where NAME is not set."""
    match = _DEFAULT.match(value)
    return match[1] if match else value


def port_of(service: str) -> int:
    default: int = Settings.model_fields[f"{service}_port"].default
    return default


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def samples() -> dict[str, set[str]]:
    """Every sample name of our metrics -> its labels; as exposed, so with `_total`, `_bucket`, `_sum`, `_count`."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    ours = [metric for metric in REGISTRY._collector_to_names if getattr(metric, "_name", "").startswith("redrive_")]
    return {
        metric._name + suffix: set(metric._labelnames)
        for metric in ours
        if isinstance(metric, MetricWrapperBase)
        for suffix in suffixes[str(metric._type)]
    }


def queries(path: Path) -> Iterator[str]:
    """In PromQL, with what Grafana puts in for its own words."""
    if path == ALERTS:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["expr"] for rule in group["rules"])
        return
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        yield from (_VARIABLES.sub("5m", target["expr"]) for target in panel.get("targets", []))
    yield from (_VALUES_OF.sub(r"\1", variable["definition"]) for variable in dashboard["templating"]["list"])


def series_asked_for(path: Path) -> list[tuple[str, set[str]]]:
    """Metrics with the labels that they are asked for. Raises ValueError for what is no PromQL."""
    found: list[tuple[str, set[str]]] = []

    def note(expression: object) -> None:
        if isinstance(expression, promql_parser.VectorSelector):
            found.append((str(expression.name), {matcher.name for matcher in expression.matchers.matchers}))

    for query in queries(path):
        promql_parser.walk(promql_parser.parse(query), note)
    return [(name, labels) for name, labels in found if name.startswith("redrive_")]


def packaged_folders() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}


def copied() -> set[str]:
    """What the Dockerfile takes from the build's context, without trailing slashes."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text().replace("\\\n", " ")
    copies = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from=" not in line]
    return {source.rstrip("/") for sources in copies for source in sources}


@pytest.mark.parametrize("service", OURS)
def test_every_variable_given_to_a_service_is_one_that_settings_read(service: str) -> None:
    assert set(OURS[service]["environment"]) - set(VARIABLES) == set()


@pytest.mark.parametrize("service", OURS)
def test_every_setting_of_a_server_can_be_given_in_the_environment(service: str) -> None:
    """Those that are not: for development, and signing keys of samples."""
    elsewhere = {"SAMPLE", "TELNYX_PRIVATE_KEY", "SENDGRID_PRIVATE_KEY"}
    assert set(VARIABLES) - set(OURS[service]["environment"]) == elsewhere


@pytest.mark.parametrize("service", OURS)
def test_every_providers_secret_reaches_every_service(service: str) -> None:
    wanted = {provider.secret_variable for provider in PROVIDERS.values()} | {"WHATSAPP_VERIFY_TOKEN"}
    assert wanted - set(OURS[service]["environment"]) == set()


@pytest.mark.parametrize("service", OURS)
def test_no_secret_is_a_constant(service: str) -> None:
    secrets = {name for name, field in VARIABLES.items() if "SecretStr" in str(Settings.model_fields[field].annotation)}
    given = OURS[service]["environment"]
    constant = {name for name in secrets & set(given) if given[name] is not None and not _REQUIRED.search(given[name])}
    assert constant == set()


def test_the_admin_key_and_the_database_password_are_required() -> None:
    required = set(_REQUIRED.findall((ROOT / "docker-compose.yml").read_text()))
    assert required == {"ADMIN_API_KEY", "POSTGRES_PASSWORD"}


@pytest.mark.parametrize("service", LISTENING)
def test_a_service_listens_on_its_default_port_to_the_whole_container(service: str) -> None:
    prefix = service.upper()
    given = SERVICES[service]["environment"]
    assert (given[f"{prefix}_HOST"], given[f"{prefix}_PORT"]) == ("0.0.0.0", str(port_of(service)))


@pytest.mark.parametrize("service", [name for name in OURS if "ports" in OURS[name]])
def test_every_published_port_is_the_default_of_the_settings(service: str) -> None:
    (port,) = OURS[service]["ports"]
    assert (port["target"], unless_set(port["published"])) == (port_of(service), str(port_of(service)))


def test_only_ingest_is_published_beyond_this_host() -> None:
    addresses = {(name, port["host_ip"]) for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert addresses == {
        ("ingest", "0.0.0.0"),
        ("console", "127.0.0.1"),
        ("prometheus", "127.0.0.1"),
        ("grafana", "127.0.0.1"),
    }


@pytest.mark.parametrize("service", LISTENING)
def test_health_is_readiness_on_the_services_port(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port_of(service)}/readyz"


@pytest.mark.parametrize("service", LISTENING)
def test_a_service_is_given_longer_to_stop_than_it_takes_to_drain(service: str) -> None:
    assert seconds(SERVICES[service]["stop_grace_period"]) > 2 * DRAIN_SECONDS


@pytest.mark.parametrize("service", LISTENING)
def test_a_service_starts_only_after_migrations_and_topics(service: str) -> None:
    assert SERVICES[service]["depends_on"]["setup"]["condition"] == "service_completed_successfully"
    assert "redrive migrate --apply\nredrive topics --apply" in SERVICES["setup"]["command"][0]


@pytest.mark.parametrize("service", LISTENING)
def test_a_service_can_write_to_its_data_folder_and_nowhere_else(service: str) -> None:
    data = SERVICES[service]["environment"]["REDRIVE_DATA"]
    targets = [volume.split(":")[1] for volume in SERVICES[service]["volumes"] if isinstance(volume, str)]
    assert (SERVICES[service]["read_only"], targets) == (True, [data])


def test_the_spool_is_on_a_volume_of_its_own_that_outlives_the_container() -> None:
    data = SERVICES["ingest"]["environment"]["REDRIVE_DATA"]
    mounts = {
        name: {v.split(":")[1]: v.split(":")[0] for v in SERVICES[name]["volumes"] if isinstance(v, str)}
        for name in LISTENING
    }
    volume = mounts["ingest"][data]
    assert volume in COMPOSE["volumes"]
    assert [name for name, found in mounts.items() if volume in found.values()] == ["ingest"]
    image = (ROOT / "deploy/docker/Dockerfile").read_text().splitlines()
    assert f"VOLUME {data}" in image
    assert any(line.strip() == f"REDRIVE_DATA={data}" for line in image)


def test_every_runbook_that_an_alert_names_is_there() -> None:
    named = set(re.findall(r"docs/[\w/-]+\.md", ALERTS.read_text()))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_alert_of_replays_names_a_runbook_that_names_it() -> None:
    (rules,) = (one["rules"] for one in yaml.safe_load(ALERTS.read_text())["groups"] if one["name"] == "redrive-replay")
    for rule in rules:
        (runbook,) = re.findall(r"docs/runbooks/[\w-]+\.md", rule["annotations"]["description"])
        assert f"*{rule['alert']}*" in (ROOT / runbook).read_text(), rule["alert"]


def test_kafka_is_the_embedded_one_and_takes_our_largest_record() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA.rpartition(':')[2]}"
    assert kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == str(MAX_RECORD_BYTES)
    assert kafka["environment"]["KAFKA_REPLICA_FETCH_MAX_BYTES"] == str(MAX_RECORD_BYTES)
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_prometheus_scrapes_every_service_under_its_name() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert {name: jobs.get(name) for name in LISTENING} == {name: [f"{name}:{port_of(name)}"] for name in LISTENING}


@pytest.mark.parametrize("path", [ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_in_a_query_exists_with_the_labels_that_it_is_asked_for(path: Path) -> None:
    known = samples()
    used = series_asked_for(path)
    assert used
    assert {name for name, _ in used} - set(known) == set()
    for name, labels in used:
        assert labels - known[name] - _SCRAPED_LABELS == set(), name


def test_a_metric_that_every_process_exposes_is_asked_of_one_job() -> None:
    """Without labels it stands at 0 in the other processes, too."""
    bare = {name for name, labels in samples().items() if not labels}
    used = [asked for path in (ALERTS, DASHBOARD) for asked in series_asked_for(path)]
    assert [name for name, labels in used if name in bare and "job" not in labels] == []


def test_the_image_is_built_from_every_package() -> None:
    assert packaged_folders() - copied() == set()


def test_the_build_sees_what_it_copies_and_no_secrets() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert let_in == copied()
    assert {name for name in copied() if not (ROOT / name).exists()} == set()


def test_the_image_runs_redrive_as_nobody_in_particular() -> None:
    lines = (ROOT / "deploy/docker/Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["redrive"]' in lines
    user = next(line for line in reversed(lines) if line.startswith("USER "))
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", user)
