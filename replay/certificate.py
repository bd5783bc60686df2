"""The certificate of a proof: what was compared, at which positions, under which roots. Must not compute any of it.

Its fields are in docs/reference/certificate.md.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import orjson
from pydantic import Field, ValidationError

from schemas.errors import InvalidSelection
from schemas.openapi import Document

FORMAT: Final = "redrive-certificate/1"
Verdict = Literal["equal", "different", "incomplete"]
Kind = Literal["changed", "missing", "unexpected", "dead"]
"""Of a row in the live tables. `dead`: a record that is dead there, and that a projection can apply."""


class PartitionProof(Document):
    """What was folded of a partition: [0, next_offset), its records, and the SHA-256 of all they hold."""

    topic: str
    partition: int
    next_offset: int
    records: int
    sha256: str


class TableProof(Document):
    """The live table's rows and root, and what the log says. `columns` in the order in which they are hashed."""

    columns: list[str]
    rows: int
    root: str
    log_rows: int
    log_root: str


class Difference(Document):
    """One row, by its key, with the columns that differ; a missing or unexpected one differs as a whole."""

    table: str
    key: dict[str, str]
    columns: list[str]
    kind: Kind


class Counts(Document):
    """`records` and `dead_letters` are the log's; `events` and `duplicates` are those of the event index."""

    records: int
    events: int
    duplicates: int
    dead_letters: int


class Certificate(Document):
    """What `redrive prove` says, and `redrive prove --check` reads."""

    format: Literal["redrive-certificate/1"] = FORMAT
    verdict: Verdict
    reasons: list[str]
    tables: dict[str, TableProof]
    differences: list[Difference]
    differences_total: int
    counts: Counts
    positions: list[PartitionProof]
    generation: int
    versions: dict[str, int]
    made_at: datetime
    redrive: str
    digest: str = Field(default="", description="SHA-256 of everything else.")

    def sealed(self) -> "Certificate":
        return self.model_copy(update={"digest": self.computed_digest()})

    def computed_digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"digest"})
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def contradictions(self) -> list[str]:
        """Where it does not hold together: it was changed after it was made."""
        found = []
        if self.digest != self.computed_digest():
            found.append("the certificate was changed: its digest is not that of its content")
        if self.verdict != verdict_of(self.reasons, self.tables, self.differences_total):
            found.append(f"the verdict {self.verdict!r} is not what its content says")
        return found


def verdict_of(reasons: list[str], tables: dict[str, TableProof], differences: int) -> Verdict:
    """What can't be known is never equal."""
    if reasons:
        return "incomplete"
    return "different" if differences or any(one.root != one.log_root for one in tables.values()) else "equal"


def read_certificate(path: Path) -> Certificate:
    """Raises `InvalidSelection` for what is none."""
    try:
        return Certificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidSelection(f"{path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidSelection(f"{path} is no certificate of {FORMAT}: {where}: {first['msg']}") from error
