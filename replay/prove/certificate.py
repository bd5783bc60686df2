"""The certificate of a proof: what was compared, at which positions, under which roots. Must not compute any of it.

Its fields are in docs/reference/certificate.md.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
from pydantic import Field, ValidationError

from replay.faults import first_fault
from schemas.errors import InvalidSelection
from schemas.openapi import Document

FORMAT: Final = "redrive-certificate/1"
ProofVerdict = Literal["equal", "different", "incomplete"]
DifferenceKind = Literal["changed", "missing", "unexpected", "dead", "definition"]
"""The difference of a row in the live tables. `dead`: a record that is dead there, and that a projection can apply.
`definition`: a view that is not the one that redrive makes.
"""

LossState = Literal["open", "recovered", "accepted"]

Number = Annotated[int, Field(ge=0, lt=2**63)]
"""What Kafka and Postgres count with, and JSON of any reader can say."""


class PartitionProof(Document):
    """The folded part of a partition: [0, next_offset), its records, and the SHA-256 of all they hold."""

    topic: str
    partition: Number
    next_offset: Number
    records: Number
    sha256: str


class TableProof(Document):
    """The live table's rows and root, and what the log says. `columns` in the order in which they are hashed."""

    columns: list[str]
    rows: Number
    root: str
    log_rows: Number
    log_root: str


class Difference(Document):
    """One row, by its key, with the columns that differ; a missing or unexpected one differs as a whole."""

    table: str
    key: dict[str, str]
    columns: list[str]
    kind: DifferenceKind


class Loss(Document):
    """Offsets [first_offset, end_offset) below the live position that the log lost. `recovered`: every event that was
    there is on the log again; `accepted`: an operator does without them, and `reason` says why; `open`: neither.
    """

    topic: str
    partition: Number
    first_offset: Number
    end_offset: Number
    state: LossState
    operator: str | None
    reason: str | None


class Behind(Document):
    """Records on the log, as of a moment after the cut, beyond its positions. `topics` are those in which any wait."""

    records: Number
    topics: dict[str, Number]
    as_of: datetime


class Counts(Document):
    """`records` and `dead_letters` are the log's; `events` and `duplicates` are those of the event index."""

    records: Number
    events: Number
    duplicates: Number
    dead_letters: Number


_LATER: Final = ("views", "losses", "behind")


class Certificate(Document):
    """The result of `redrive prove`, and the input of `redrive prove --check`."""

    format: Literal["redrive-certificate/1"] = FORMAT
    verdict: ProofVerdict
    reasons: list[str]
    tables: dict[str, TableProof]
    differences: list[Difference]
    differences_total: Number
    views: list[str] | None = Field(default=None, description="Those whose definitions were compared.")
    losses: list[Loss] | None = None
    behind: Behind | None = None
    counts: Counts
    positions: list[PartitionProof]
    generation: Number
    versions: dict[str, Number]
    made_at: datetime
    redrive: str
    digest: str = Field(default="", description="SHA-256 of everything else.")

    def sealed(self) -> "Certificate":
        return self.model_copy(update={"digest": self.computed_digest()})

    def computed_digest(self) -> str:
        # Certificates of before have no such fields, and stay valid.
        absent = {name for name in _LATER if getattr(self, name) is None}
        content = self.model_dump(mode="json", exclude={"digest", *absent})
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def accepted_offsets(self) -> int:
        """How many offsets the log lost and an operator does without."""
        return sum(loss.end_offset - loss.first_offset for loss in self.losses or () if loss.state == "accepted")

    @property
    def conclusion(self) -> str:
        """The verdict, and what it does not say: what is not folded yet, and what is lost."""
        behind = self.behind.records if self.behind else 0
        if not behind and not self.accepted_offsets:
            return self.verdict
        parts: list[str] = ["equal for what is folded" if behind and self.verdict == "equal" else self.verdict]
        if behind:
            parts.append(f"{behind:,} {'record is' if behind == 1 else 'records are'} on the log and not folded yet")
        if self.accepted_offsets:
            parts.append(f"the log lost {self.accepted_offsets:,} offsets, which was accepted")
        return "; ".join(parts)

    def contradictions(self) -> list[str]:
        """Where it does not hold together: it was changed after it was made."""
        found = []
        if self.digest != self.computed_digest():
            found.append("the certificate was changed: its digest is not that of its content")
        if self.verdict != verdict_of(self.reasons, self.tables, self.differences_total):
            found.append(f"the verdict {self.verdict!r} is not what its content says")
        return found


def verdict_of(reasons: list[str], tables: dict[str, TableProof], differences: int) -> ProofVerdict:
    """Uncertainty is never equal."""
    if reasons:
        return "incomplete"
    return "different" if differences or any(one.root != one.log_root for one in tables.values()) else "equal"


def parse_certificate(raw: bytes) -> Certificate:
    """Raises `InvalidSelection` for an invalid certificate."""
    try:
        return Certificate.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidSelection(f"no certificate of {FORMAT}: {first_fault(error)}") from error


def read_certificate(path: Path) -> Certificate:
    """Raises `InvalidSelection` for an invalid certificate."""
    try:
        return parse_certificate(path.read_bytes())
    except OSError as error:
        raise InvalidSelection(f"{path} can't be read: {error.strerror}") from error
    except InvalidSelection as error:
        raise InvalidSelection(f"{path} is {error}") from error
