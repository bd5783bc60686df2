"""An operator's order of a rebuild: one model for flags and the API. Must not fold or flip."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from replay.audit import Author
from replay.ports import Connection
from replay.rebuild import lifecycle, snapshot
from replay.rebuild.flip import rollback_target
from replay.rebuild.snapshot import SnapshotOrder
from replay.selection.selection import Text, Timestamp
from replay.tables import generations

_Name = Annotated[Text, Field(min_length=1)]
_Number = Annotated[int, Field(gt=0, lt=2**31)]


class RebuildOrder(BaseModel):
    """Fold a new generation (of `only` some tables), `apply` one that is ready, `rollback`, make the state `as_of` a
    moment under a `name`, or `drop` a generation by its number or a state by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reason: _Name | None = None
    only: tuple[str, ...] = ()
    apply: _Number | None = None
    accept_loss: bool = False
    rollback: bool = False
    as_of_ms: Timestamp | None = Field(None, alias="as_of")
    name: _Name | None = None
    drop: _Number | _Name | None = None

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        orders = (self.only or None, self.apply, self.rollback or None, self.as_of_ms, self.drop)
        if sum(one is not None for one in orders) > 1:
            raise ValueError("only, apply, rollback, as_of and drop are mutually exclusive")
        if self.name is not None and self.as_of_ms is None:
            raise ValueError("name goes with as_of")
        if self.accept_loss and self.apply is None and not self.rollback and self.as_of_ms is None:
            raise ValueError("accept_loss goes with apply, rollback or as_of")
        self.snapshot()
        return self

    def snapshot(self) -> SnapshotOrder | None:
        """Raises `InvalidSelection`."""
        return None if self.as_of_ms is None else SnapshotOrder.named(self.name, self.as_of_ms, self.accept_loss)

    async def destination(self, connection: Connection) -> int | None:
        """The generation to make live. Raises `InvalidTransition` if there is none to go back to."""
        return await rollback_target(connection) if self.rollback else self.apply


async def drop_one(connection: Connection, which: str, author: Author) -> None:
    """A generation by its number, or a snapshot by its name."""
    if which.isdecimal():
        await lifecycle.drop(connection, int(which), author)
    else:
        await snapshot.drop(connection, which, author)


async def describe_all(connection: Connection) -> dict[str, Any]:
    return {
        "generations": await generations.describe_all(connection),
        "scratches": await snapshot.describe_all(connection),
    }
