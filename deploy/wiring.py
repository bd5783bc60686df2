"""Settings from the environment and the files, and what is built from them: the one place that reads `os.environ`."""

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Any, Final, TypeVar

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError

from deploy.cluster import cluster_of
from deploy.embedded.dev_secrets import development_secrets
from replay.tables.read_models import Declared
from schemas.cluster import Cluster
from schemas.errors import Misconfigured
from schemas.providers import PROVIDERS
from schemas.settings import VARIABLES, FileConfig, PluginConfig, Settings, Source, sources_of
from schemas.topics import PROVIDER_OF

ENV_FILE: Final = Path(".env")
LISTENING: Final = (
    "INGEST_HOST",
    "INGEST_PORT",
    "CONSOLE_HOST",
    "CONSOLE_PORT",
    "PROCESSORS_HOST",
    "PROCESSORS_PORT",
)
"""Where services listen: `redrive up` writes it down for the commands in other terminals."""

MIN_ADMIN_KEY_CHARACTERS: Final = 16
"""One secret alone guards corrections and replays, and a person may have thought it up: NIST SP 800-63B asks for 15."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """The settings, sources and files that every command and service starts from."""

    settings: Settings
    file: FileConfig
    sources: dict[str, Source]

    def cluster(self) -> Cluster:
        """Reads the files that TLS needs. Raises `Misconfigured`."""
        return cluster_of(self.settings)

    @property
    def operator(self) -> str:
        return self.settings.operator or user_name()

    def declared(self) -> Declared:
        """Reads the files of `[read_models]`. Raises `Misconfigured`."""
        folder, named = self.settings.config.parent, self.file.read_models
        return Declared(_read_sql(folder, named.indexes), _read_sql(folder, named.views))


def _read_sql(folder: Path, name: Path | None) -> str:
    try:
        return (folder / name).read_text() if name else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"read_models: {name} can't be read: {error}") from error


def given_environment() -> dict[str, str]:
    """The user's settings: `.env`, and above it the environment. Empty values count as not set.

    Raises `Misconfigured`.
    """
    merged = {**_env_file(ENV_FILE), **os.environ}
    return {name: value for name, value in merged.items() if value}


def _env_file(path: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(path)
    except (UnicodeDecodeError, OSError) as error:
        raise Misconfigured(f"{path} can't be read: {error}") from error


def user_name() -> str:
    """The OS user; its number where it has no name, as in many containers."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def generated_env(data: Path) -> Path:
    """Where `redrive up` writes addresses and development secrets."""
    return data / "env"


def generated_secrets(data: Path) -> dict[str, str]:
    """The secrets that an earlier `redrive up` wrote there. Raises `Misconfigured`."""
    return {name: value for name, value in _env_file(generated_env(data)).items() if value}


def load(*, is_for_up: bool = False) -> Runtime:
    """Read settings and `redrive.toml`. Raises `Misconfigured` with every fault in one message.

    `is_for_up`: as `redrive up` is about to write them into the generated file. It listens where this start says, and
    not where an earlier one did; in development every secret that is not set is made.
    """
    # First: pydantic would not say which file it could not read.
    _env_file(ENV_FILE)
    try:
        # The data folder names the generated file, so it is read first.
        data = Settings(_env_file=ENV_FILE).data
        _env_file(generated_env(data))
        settings = Settings(_env_file=(generated_env(data), ENV_FILE))
        if is_for_up:
            given = given_environment()
            made = {name: given.get(name, Settings.model_fields[VARIABLES[name]].default) for name in LISTENING}
            if settings.app_env == "development":
                made |= development_secrets(given, generated_secrets(data))
            settings = Settings(_env_file=(generated_env(data), ENV_FILE), **made)
    except ValidationError as error:
        raise Misconfigured(_faults(error, "a setting")) from error
    file = load_file(settings.config)
    sources = sources_of(settings, file)
    if settings.app_env == "production":
        _require_production(settings, sources)
    return Runtime(settings, file, sources)


def adopt(runtime: Runtime) -> None:
    """Make this configuration the one that records are read by: the provider of each source, which is that of its name
    unless redrive.toml says another. The environment has no part in it, so all processes agree.
    """
    PROVIDER_OF.clear()
    PROVIDER_OF.update({name: name for name in PROVIDERS})
    PROVIDER_OF.update({name: source.provider for name, source in runtime.file.sources.items()})


def load_file(path: Path) -> FileConfig:
    """`redrive.toml`, with `${NAME}` in strings taken from the environment; empty where there is no file.

    Its plug-ins are loaded on the way. Raises `Misconfigured`.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return FileConfig()
    except OSError as error:
        raise Misconfigured(f"{path}: {error}") from error
    parsed = parse_toml(raw, str(path))
    # Plug-ins first: the rest of the file may name a provider of theirs.
    if named := _validated(PluginConfig, parsed, str(path)).plugins:
        # Imported here: it needs every projection, and most installations have no plug-in.
        from deploy import plugins

        plugins.load(named, path.parent.resolve())
    return file_config(parsed, str(path))


def parse_toml(raw: bytes, where: str) -> dict[str, Any]:
    """The file as it is, with `${NAME}` replaced. Raises `Misconfigured`."""
    try:
        expanded: dict[str, Any] = _expand(tomllib.loads(raw.decode()), where)
    except (ValueError, RecursionError) as error:
        # Besides invalid TOML: bytes that are not UTF-8, a number of five thousand digits, nesting without end.
        raise Misconfigured(f"{where}: {error}") from error
    return expanded


def file_config(parsed: dict[str, Any], where: str) -> FileConfig:
    """Raises `Misconfigured`."""
    return _validated(FileConfig, parsed, where)


M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], parsed: dict[str, Any], where: str) -> M:
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise Misconfigured(_faults(error, where)) from error


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {name: _expand(item, f"{where}: {name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, where) for item in value]
    if (name := _reference(value)) is not None:
        found = given_environment().get(name)
        if not found:
            raise Misconfigured(f"{where} refers to {value}, but {name} is not set")
        return found
    return value


def _reference(value: Any) -> str | None:
    """The variable that a value of the file refers to."""
    is_one = isinstance(value, str) and value.startswith("${") and value.endswith("}")
    return value[2:-1] if is_one else None


def variables_named(path: Path) -> frozenset[str]:
    """Environment variables to which a `redrive.toml` refers; none where there is no file that can be read."""
    try:
        return frozenset(_references(tomllib.loads(path.read_text())))
    except (OSError, ValueError, RecursionError):
        return frozenset()


def _references(value: Any) -> Iterator[str]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(item)
    if (name := _reference(value)) is not None:
        yield name


def _faults(error: ValidationError, where: str) -> str:
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
    return f"{where} is not valid: " + "; ".join(faults)


def _require_production(settings: Settings, sources: dict[str, Source]) -> None:
    key = settings.admin_api_key.get_secret_value().strip() if settings.admin_api_key else ""
    if len(key) < MIN_ADMIN_KEY_CHARACTERS:
        raise Misconfigured(
            f"APP_ENV=production needs ADMIN_API_KEY, of at least {MIN_ADMIN_KEY_CHARACTERS} characters"
            " (`openssl rand -hex 24`)"
        )
    if not any(source.secrets.values for source in sources.values()):
        raise Misconfigured("APP_ENV=production needs a source: set one provider's secret, or redrive.toml")
    signing_url = sorted({source.provider.name for source in sources.values() if source.provider.signs_url})
    if settings.public_url is None and signing_url:
        raise Misconfigured(
            f"APP_ENV=production needs PUBLIC_URL: {' and '.join(signing_url)} sign the URL that they call"
        )


def export_line(name: str, value: str | SecretStr) -> str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return f"export {name}={text}"
