"""Plug-ins: modules of a user's own, named in `redrive.toml`, with providers, projections and fact tables.

Must not hold the rules of a registry: each refuses what it can't take.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from processors import projections
from schemas import facts, providers
from schemas.errors import Misconfigured
from schemas.lattice import Table
from schemas.providers.base import Provider

T = TypeVar("T")
_ENTRIES: Final = ("PROVIDERS", "PROJECTIONS", "TABLES")


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
            _register(module)
        except Misconfigured as error:
            raise Misconfigured(f"plug-in {name}: {error}") from error


def _import(name: str, folder: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise Misconfigured(f"plug-in {name}: no module of that name is installed or in {folder}") from error
        raise Misconfigured(f"plug-in {name} can't be imported: {error}") from error
    except Exception as error:
        # Somebody else's code, which may raise anything while it is imported.
        raise Misconfigured(f"plug-in {name} can't be imported: {type(error).__name__}: {error}") from error


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
