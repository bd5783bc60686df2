"""Plug-ins: modules of a user's own, named in `redrive.toml`, with providers, projections and fact tables.

Must not hold the rules of a registry: each refuses what it can't take.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from processors import projections
from schemas import facts, providers
from schemas.errors import Exited, Misconfigured
from schemas.lattice import Table
from schemas.masking import describe
from schemas.plugin_calls import call
from schemas.providers.base import Provider

T = TypeVar("T")
_ENTRIES: Final = ("PROVIDERS", "PROJECTIONS", "TABLES")
_imported: Final[list[str]] = []
"""Modules that this process had not imported before it read them as plug-ins."""


def load(names: Sequence[str], folder: Path) -> None:
    """Import and register each, in order; again changes nothing. `folder` is that of redrive.toml, absolute.

    Raises `Misconfigured`, naming the plug-in, for whatever is wrong with it: to start without it would turn records
    into dead letters and events into ignored ones.
    """
    if names and str(folder) not in sys.path:
        # At the end: a file beside redrive.toml must not take the place of a library.
        sys.path.append(str(folder))
    for name in names:
        module = _import(name, folder)
        try:
            call(_register, module)
        except Misconfigured as error:
            raise Misconfigured(f"plug-in {name}: {error}") from error
        except Exception as error:
            raise Misconfigured(f"plug-in {name} can't be registered: {_said(error)}") from error


@contextmanager
def put_back_if_refused() -> Iterator[None]:
    """Where a configuration is refused, the registries are what they were, and what it imported is read again with the
    next one. A plug-in that brings tables is refused: those who write have statements for the tables of their start.

    Raises `Misconfigured`.
    """
    dicts: tuple[dict[Any, Any], ...] = (providers.PROVIDERS, projections.PROJECTIONS, facts.TABLE_OF)
    lists: tuple[list[Any], ...] = (facts.TABLES, facts.PLUGGED_IN)
    before = [one.copy() for one in dicts], [one.copy() for one in lists], len(_imported)
    try:
        yield
        if new := [table.name for table in facts.PLUGGED_IN if table not in before[1][1]]:
            raise Misconfigured(
                f"plug-ins bring the tables {', '.join(new)}: run `redrive migrate --apply`, then restart the services"
            )
    except Misconfigured:
        for registry, known in zip(dicts, before[0], strict=True):
            registry.clear()
            registry.update(known)
        for entries, listed in zip(lists, before[1], strict=True):
            entries[:] = listed
        for name in _imported[before[2] :]:
            sys.modules.pop(name, None)
        del _imported[before[2] :]
        raise


def _import(name: str, folder: Path) -> ModuleType:
    is_new = name not in sys.modules
    # A module may have been written since its folder was last looked through.
    importlib.invalidate_caches()
    try:
        module = call(importlib.import_module, name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise Misconfigured(f"plug-in {name}: no module of that name is installed or in {folder}") from error
        raise Misconfigured(f"plug-in {name} can't be imported: {error}") from error
    except Exception as error:
        # Somebody else's code, which may raise anything while it is imported.
        raise Misconfigured(f"plug-in {name} can't be imported: {_said(error)}") from error
    if is_new:
        _imported.append(name)
    return module


def _said(error: Exception) -> str:
    """In the plug-in's own words: whoever reads this can change it."""
    try:
        return str(error) if isinstance(error, Exited) else f"{type(error).__name__}: {call(str, error)}"
    except Exception:  # noqa: BLE001 - what its exception says is its own code, too
        return describe(error)


def _register(module: ModuleType) -> None:
    if not any(hasattr(module, entry) for entry in _ENTRIES):
        raise Misconfigured(f"it defines none of {', '.join(_ENTRIES)}")
    added: Sequence[Provider] = _list_of(module, "PROVIDERS", Provider)
    tables: Sequence[Table[Any]] = _list_of(module, "TABLES", Table)
    projecting = getattr(module, "PROJECTIONS", {})
    if not isinstance(projecting, Mapping) or not all(callable(one) for one in projecting.values()):
        raise Misconfigured("PROJECTIONS must map names of providers or types of records to functions")
    for provider in added:
        providers.register(provider)
    for key, projection in projecting.items():
        projections.register(str(key), projection)
    for table in tables:
        facts.register(table)
    for provider in added:
        if provider.name not in projections.PROJECTIONS:
            raise Misconfigured(f"PROJECTIONS has none for {provider.name!r}: all its records would be dead letters")


def _list_of(module: ModuleType, entry: str, kind: type[T]) -> Sequence[T]:
    found = getattr(module, entry, ())
    if not isinstance(found, list | tuple) or not all(isinstance(one, kind) for one in found):
        raise Misconfigured(f"{entry} must be a list or tuple of {kind.__module__}.{kind.__name__}")
    return found
