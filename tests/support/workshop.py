"""Plug-ins that tests write."""

from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Annotated

from deploy import plugins
from schemas.lattice import Fact, Key, Latest, Min

PREAMBLE = """
from dataclasses import dataclass, replace
from typing import Annotated
from processors.projections.base import Event
from schemas.envelope import Identity
from schemas.facts import Message
from schemas.lattice import Fact, Key, Min, Table
from schemas.providers import PROVIDERS as OURS
from schemas.providers.base import digest_of

@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(Fact):
    name: Annotated[str, Key()]

@dataclass(frozen=True, slots=True, kw_only=True)
class Keyless(Fact):
    age: Annotated[int | None, Min()] = None

def project(record, payload):
    yield Event(record.record_id, record.type, None, (Seen(version=(None, 0, ""), name=payload["name"]),))

def identify(payload, signed_id):
    return Identity(signed_id, "acme." + payload["type"], None, digest_of(payload))

acme = replace(OURS["standardwebhooks"], name="acme", secret_variable="ACME_SECRET", identify=identify)
"""
_numbers = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact(Fact):
    """A row of a plug-in's table."""

    source: Annotated[str, Key()]
    contact_id: Annotated[str, Key()]
    name: Annotated[str | None, Latest("name")] = None
    created_at: Annotated[datetime | None, Min()] = None


class Workshop:
    """A folder in which plug-ins are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, body: str, preamble: str = PREAMBLE) -> str:
        # A name of its own: Python imports a module once in a process.
        name = f"plugin_{next(_numbers)}"
        (self.folder / f"{name}.py").write_text(preamble + body)
        return name

    def load(self, *names: str) -> None:
        plugins.load(names, self.folder)
