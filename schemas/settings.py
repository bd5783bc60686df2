"""Every setting, with its environment variable. Values come in from outside: `deploy.wiring` reads the environment.

Precedence: flag > environment > `.env` > the generated `.redrive/env` > default.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.cluster import SaslMechanism, SecurityProtocol
from schemas.errors import Misconfigured
from schemas.limits import LimitsConfig, Network
from schemas.providers import PROVIDERS, check_secrets, check_signing_secret
from schemas.providers.base import Provider, Secrets
from schemas.providers.keys import MIN_CHARACTERS
from schemas.providers.sound import MAX_BODY_BYTES
from schemas.quarantine import QuarantineConfig
from schemas.targets import ReplayConfig, Secret
from schemas.topics import is_source_name, topic_of

_DURATION: Final = re.compile(r"(\d{1,8})\s*(s|m|h|d)\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(value: Any) -> Any:
    """`30s`, `15m`, `12h`, `7d`; anything else is left to pydantic (ISO 8601, seconds)."""
    if isinstance(value, str) and (match := _DURATION.match(value.strip())):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


class Settings(BaseSettings):
    """One field per environment variable; the names are the contract."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    app_env: Literal["development", "production"] = Field("development", validation_alias="APP_ENV")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", validation_alias="LOG_LEVEL")
    log_stdout_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("DEBUG", validation_alias="LOG_STDOUT_LEVEL")
    kafka_bootstrap_servers: str | None = Field(None, validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    kafka_security_protocol: SecurityProtocol = Field("PLAINTEXT", validation_alias="KAFKA_SECURITY_PROTOCOL")
    kafka_sasl_mechanism: SaslMechanism | None = Field(None, validation_alias="KAFKA_SASL_MECHANISM")
    kafka_sasl_username: str | None = Field(None, validation_alias="KAFKA_SASL_USERNAME")
    kafka_sasl_password: SecretStr | None = Field(None, validation_alias="KAFKA_SASL_PASSWORD")
    kafka_ssl_cafile: Path | None = Field(None, validation_alias="KAFKA_SSL_CAFILE")
    kafka_ssl_certfile: Path | None = Field(None, validation_alias="KAFKA_SSL_CERTFILE")
    kafka_ssl_keyfile: Path | None = Field(None, validation_alias="KAFKA_SSL_KEYFILE")
    kafka_ssl_key_password: SecretStr | None = Field(None, validation_alias="KAFKA_SSL_KEY_PASSWORD")
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    admin_api_key: SecretStr | None = Field(None, validation_alias="ADMIN_API_KEY")
    ingest_host: str = Field("0.0.0.0", validation_alias="INGEST_HOST")  # noqa: S104 - providers call from outside
    ingest_port: int = Field(8080, validation_alias="INGEST_PORT", ge=0, le=65535)
    console_host: str = Field("127.0.0.1", validation_alias="CONSOLE_HOST")
    console_port: int = Field(8081, validation_alias="CONSOLE_PORT", ge=0, le=65535)
    processors_host: str = Field("127.0.0.1", validation_alias="PROCESSORS_HOST")
    processors_port: int = Field(8082, validation_alias="PROCESSORS_PORT", ge=0, le=65535)
    processors_workers: int = Field(1, validation_alias="PROCESSORS_WORKERS", ge=1, le=64)
    data: Path = Field(Path(".redrive"), validation_alias="REDRIVE_DATA")
    config: Path = Field(Path("redrive.toml"), validation_alias="REDRIVE_CONFIG")
    operator: str | None = Field(None, validation_alias="REDRIVE_OPERATOR")
    public_url: str | None = Field(None, validation_alias="PUBLIC_URL")
    dedupe_window: Duration = Field(timedelta(days=7), validation_alias="DEDUPE_WINDOW")
    dedupe_max_ids: int = Field(5_000_000, validation_alias="DEDUPE_MAX_IDS", ge=1)
    ingest_workers: int = Field(1, validation_alias="INGEST_WORKERS", ge=1, le=64)
    append_timeout_seconds: float = Field(5.0, validation_alias="APPEND_TIMEOUT_SECONDS", gt=0)
    spool_max_bytes: ByteSize = Field(ByteSize(1024**3), validation_alias="SPOOL_MAX_BYTES", ge=0)
    spool_after_seconds: float = Field(0.5, validation_alias="SPOOL_AFTER_SECONDS", gt=0)
    partitions: int = Field(12, validation_alias="TOPIC_PARTITIONS", ge=1)
    replication_factor: int = Field(1, validation_alias="TOPIC_REPLICATION_FACTOR", ge=1)
    sample: bool = Field(True, validation_alias="SAMPLE")
    stripe_webhook_secret: SecretStr | None = Field(None, validation_alias="STRIPE_WEBHOOK_SECRET")
    whatsapp_app_secret: SecretStr | None = Field(None, validation_alias="WHATSAPP_APP_SECRET")
    token_digest_key: SecretStr | None = Field(None, validation_alias="TOKEN_DIGEST_KEY")
    whatsapp_verify_token: SecretStr | None = Field(None, validation_alias="WHATSAPP_VERIFY_TOKEN")
    twilio_auth_token: SecretStr | None = Field(None, validation_alias="TWILIO_AUTH_TOKEN")
    aircall_webhook_token: SecretStr | None = Field(None, validation_alias="AIRCALL_WEBHOOK_TOKEN")
    hubspot_client_secret: SecretStr | None = Field(None, validation_alias="HUBSPOT_CLIENT_SECRET")
    retell_api_key: SecretStr | None = Field(None, validation_alias="RETELL_API_KEY")
    telnyx_public_key: SecretStr | None = Field(None, validation_alias="TELNYX_PUBLIC_KEY")
    telnyx_private_key: SecretStr | None = Field(None, validation_alias="TELNYX_PRIVATE_KEY")
    standard_webhooks_secret: SecretStr | None = Field(None, validation_alias="STANDARD_WEBHOOKS_SECRET")
    sendgrid_public_key: SecretStr | None = Field(None, validation_alias="SENDGRID_PUBLIC_KEY")
    sendgrid_private_key: SecretStr | None = Field(None, validation_alias="SENDGRID_PRIVATE_KEY")
    google_calendar_channel_token: SecretStr | None = Field(None, validation_alias="GOOGLE_CALENDAR_CHANNEL_TOKEN")

    def require_database(self) -> str:
        if self.database_url is None:
            raise Misconfigured("DATABASE_URL is not set (`redrive up` starts an embedded Postgres)")
        return self.database_url.get_secret_value()

    def variable(self, name: str | None) -> SecretStr | None:
        """A secret by its environment variable. The secret of a plug-in's provider is in redrive.toml instead."""
        value = getattr(self, name.lower(), None) if name else None
        return value if isinstance(value, SecretStr) else None


VARIABLES: Final[dict[str, str]] = {
    str(field.validation_alias): name for name, field in Settings.model_fields.items() if field.validation_alias
}
"""Environment variable -> field, for `redrive check` and near misses."""


class SourceConfig(BaseModel):
    """`[sources.<name>]` of redrive.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    provider: str
    secrets: tuple[Secret, ...] = ()
    verify_token: Secret | None = None
    max_body_bytes: int | None = Field(None, gt=0, le=MAX_BODY_BYTES)
    answer: Literal["json", "twiml"] | None = None
    signature_versions: frozenset[str] = frozenset()
    channel_ids: frozenset[str] = frozenset()
    requests_per_second: float | None = Field(None, gt=0)
    burst: int | None = Field(None, gt=0)
    allow_from: tuple[Network, ...] = ()

    @model_validator(mode="after")
    def _known_provider(self) -> "SourceConfig":
        if self.provider not in PROVIDERS:
            raise ValueError(f"provider {self.provider!r} is not one of {', '.join(PROVIDERS)}")
        if unknown := sorted(self.signature_versions - PROVIDERS[self.provider].schemes):
            known = ", ".join(sorted(PROVIDERS[self.provider].schemes)) or "none"
            raise ValueError(f"signature_versions {', '.join(unknown)}: {self.provider} has {known}")
        if self.verify_token is not None and PROVIDERS[self.provider].answer_handshake is None:
            raise ValueError(f"verify_token: {self.provider} has no handshake")
        return self


class PluginConfig(BaseModel):
    """The plug-ins of redrive.toml: read first, because the rest of the file may name a provider of theirs."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    plugins: tuple[str, ...] = ()


class ReadModelsConfig(BaseModel):
    """`[read_models]` of redrive.toml: files of SQL, beside it or absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    indexes: Path | None = None
    views: Path | None = None


class FileConfig(PluginConfig):
    """The whole of redrive.toml; the annotated default beside `deploy` documents every entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sources: dict[str, SourceConfig] = Field(default_factory=dict)
    price_tiers: dict[str, str] = Field(default_factory=dict)
    quarantine: QuarantineConfig = QuarantineConfig()
    limits: LimitsConfig = LimitsConfig()
    replay: ReplayConfig = ReplayConfig()
    read_models: ReadModelsConfig = ReadModelsConfig()

    @model_validator(mode="after")
    def _source_names(self) -> "FileConfig":
        for name in self.sources:
            if not is_source_name(name):
                expected = "expected ^[a-z][a-z0-9_-]{0,39}$, and not a reserved name"
                raise ValueError(f"invalid source name {name!r}: {expected}")
        return self


@dataclass(frozen=True, slots=True)
class Source:
    """One configured endpoint of a provider."""

    name: str
    provider: Provider
    secrets: Secrets
    max_body_bytes: int = 4 * 1024 * 1024
    answer: str = "json"
    signing_key: str | None = field(repr=False, default=None)
    """For samples, where the secrets are public keys."""
    requests_per_second: float | None = None
    burst: int | None = None
    allow_from: tuple[Network, ...] = ()

    @property
    def topic(self) -> str:
        return topic_of(self.name)


def split_secrets(provider: Provider, variable: SecretStr) -> tuple[str, ...]:
    """A comma separates the secrets of one source while one is rotated out. No provider issues one that holds a comma,
    but a user may choose one. Raises `Misconfigured`.
    """
    text = variable.get_secret_value()
    if provider.has_chosen_secret and "," in text:
        raise Misconfigured(
            f"{provider.secret_variable} holds a comma, which may separate two secrets or be a part of one: write"
            f' [sources.{provider.name}], provider = "{provider.name}", secrets = ["…", "…"] in redrive.toml instead'
        )
    values = tuple(part.strip() for part in text.split(",") if part.strip())
    if not values:
        raise Misconfigured(f"{provider.secret_variable} is blank")
    return values


def sources_of(settings: Settings, file: FileConfig) -> dict[str, Source]:
    """Every source: one of its own name for each provider whose secret is set, then those of redrive.toml.

    Raises `Misconfigured` for invalid secrets.
    """
    found: dict[str, Source] = {}
    digest_key = settings.token_digest_key.get_secret_value().encode() if settings.token_digest_key else b""
    for provider in PROVIDERS.values():
        variable = settings.variable(provider.secret_variable)
        if variable is not None:
            values = split_secrets(provider, variable)
            token = settings.variable(provider.verify_token_variable)
            secrets = Secrets(values, token.get_secret_value() if token else None, digest_key=digest_key)
            key = settings.variable(provider.signing_variable)
            found[provider.name] = Source(
                provider.name,
                provider,
                secrets,
                provider.max_body_bytes,
                provider.answer,
                signing_key=key.get_secret_value() if key else None,
            )
    for name, config in file.sources.items():
        provider = PROVIDERS[config.provider]
        found[name] = Source(
            name,
            provider,
            Secrets(
                tuple(secret.get_secret_value() for secret in config.secrets),
                config.verify_token.get_secret_value() if config.verify_token else None,
                config.signature_versions,
                digest_key,
                config.channel_ids,
            ),
            config.max_body_bytes or provider.max_body_bytes,
            config.answer or provider.answer,
            requests_per_second=config.requests_per_second,
            burst=config.burst,
            allow_from=config.allow_from,
        )
    for source in found.values():
        _check_secrets(source)
    _require_whole_pairs(settings, found)
    _check_replay_secrets(file, found)
    return found


def _check_secrets(source: Source) -> None:
    try:
        check_secrets(source.provider, source.secrets)
    except Misconfigured as error:
        raise Misconfigured(f"source {source.name} ({source.provider.secret_variable}), {error}") from error
    if source.secrets.verify_token is not None and not source.secrets.values:
        raise Misconfigured(
            f"source {source.name} has a verify token and no secret: the handshake would hold, and every delivery be"
            " refused; set its secrets"
        )
    if source.provider.mask_token is None:
        return
    if not source.secrets.digest_key:
        raise Misconfigured(
            f"source {source.name}: TOKEN_DIGEST_KEY is not set; the log keeps a digest of the token instead of the"
            " token, under a key of this installation (make one with `openssl rand -hex 32`, and keep it; in"
            " development `redrive up` makes it)"
        )
    if len(source.secrets.digest_key.strip()) < MIN_CHARACTERS:
        raise Misconfigured(f"TOKEN_DIGEST_KEY: expected at least {MIN_CHARACTERS} characters (`openssl rand -hex 32`)")


def _check_replay_secrets(file: FileConfig, found: Mapping[str, Source]) -> None:
    """Raises `Misconfigured`. The name of a source that is no longer there is looked up among the providers."""
    for target, secrets in file.replay.secrets.items():
        for name, secret in secrets.items():
            provider = found[name].provider if name in found else PROVIDERS.get(name)
            if provider is None:
                continue
            try:
                check_signing_secret(provider, secret.get_secret_value())
            except Misconfigured as error:
                raise Misconfigured(f'[replay.secrets."{target}"], {name}: {error}') from error


def _require_whole_pairs(settings: Settings, found: Mapping[str, Source]) -> None:
    """A half that is set alone is a mistake, which would otherwise leave the source out in silence. Raises
    `Misconfigured`.
    """
    used = {source.provider.name for source in found.values()}
    for provider in PROVIDERS.values():
        for half in (provider.verify_token_variable, provider.signing_variable):
            if settings.variable(half) is not None and provider.name not in used:
                raise Misconfigured(f"{half} is set, but {provider.secret_variable} is not: they belong together")
