"""Merge policies, and the Python join that is made from a table's declaration; its SQL is made in `table_sql`.

A fact table is a join-semilattice: merging is associative, commutative and idempotent, so a table is a function of the
*set* of records, whatever their order and repetition. NULL is the bottom of every column. Must not know any table.
"""

import dataclasses
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from operator import attrgetter
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from schemas.version_bytes import UNSET, canonical_json, version_bytes, version_head

Row = tuple[Any, ...]
"""One value per stored column, in the order of `Table.columns`."""


@dataclass(frozen=True)
class Key:
    """Part of the primary key: equal in both rows by definition."""


@dataclass(frozen=True)
class Min:
    """The least value ever seen."""


@dataclass(frozen=True)
class Max:
    """The greatest value ever seen."""


@dataclass(frozen=True)
class Ranked:
    """The value furthest along a fixed sequence. No two values share a rank, so the order is total."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Latest:
    """A group of columns that move together, ordered by (time, rank, id).

    When two versions tie, each column keeps the known value, and the greater of two: NULL is the bottom inside a group
    as well, so an event with fewer values than another of its id removes nothing.

    `ranks`: take the rank from the group's first column and leave the time out, for statuses whose provider's times do
    not order them. Without it time and rank are those of the fact's `Version`.
    """

    group: str
    ranks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Constant:
    """A column that should never change: a one-column `Latest` whose disagreements are counted.

    An event without it sets nothing, so no tie meets NULL: the canonical JSON in the version decides between values.
    """


Policy = Key | Min | Max | Ranked | Latest | Constant


class Version(NamedTuple):
    """When and how strongly a fact was set: the provider's time, a rank among equal times, the event's id."""

    at: datetime | None
    rank: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Base of every fact: what one event says about one row."""

    version: Version


F = TypeVar("F", bound=Fact)

VALUE_TYPES: Final = (str, int, bool, datetime, Decimal, bytes)


@dataclass(frozen=True)
class Column:
    """A stored column: its name, Python type and policy. Hidden ones carry versions."""

    name: str
    type: type
    policy: Policy
    is_hidden: bool = False


@dataclass(frozen=True)
class Group:
    """Columns under one version: their indexes in a row, the version's index, and where the rank comes from."""

    name: str
    members: tuple[int, ...]
    names: tuple[str, ...]
    version: int
    ranks: tuple[str, ...] | None
    is_constant: bool


DISAGREEMENT: Final = "has_disagreement"


class Table(Generic[F]):
    """A fact table, declared by the annotations of a frozen dataclass of facts."""

    def __init__(self, name: str, fact: type[F]) -> None:
        self.name = name
        self.fact = fact
        declared = _declared_columns(fact)
        self.keys = tuple(c.name for c in declared if isinstance(c.policy, Key))
        self.has_constants = any(isinstance(c.policy, Constant) for c in declared)
        groups = _group_members(declared)
        hidden = [Column(f"{name}_version", bytes, Max(), is_hidden=True) for name in groups]
        if self.has_constants:
            hidden.append(Column(DISAGREEMENT, bool, Max(), is_hidden=True))
        self.columns: tuple[Column, ...] = (*declared, *hidden)
        index = {column.name: position for position, column in enumerate(self.columns)}
        self.groups = tuple(
            Group(
                name=name,
                members=tuple(index[c.name] for c in members),
                names=tuple(c.name for c in members),
                version=index[f"{name}_version"],
                ranks=members[0].policy.ranks if isinstance(members[0].policy, Latest) else None,
                is_constant=isinstance(members[0].policy, Constant),
            )
            for name, members in groups.items()
        )
        self._versioned = [(g.members[0], g.members[1:], g.names, g.ranks) for g in self.groups]
        """For each group: its first column, the others, their names and ranks."""
        self._plain = tuple(c.name for c in declared)
        read = attrgetter(*self._plain)
        # For a single name, `read` returns the bare value.
        self._values_of = read if len(self._plain) > 1 else lambda fact: (read(fact),)
        self._key_count = len(self.keys)
        self._ranked = [(i, c.policy.values) for i, c in enumerate(declared) if isinstance(c.policy, Ranked)]

    def row(self, fact: F) -> Row:
        """Flatten a fact into a row. Raises TypeError or ValueError for values that have no canonical JSON or rank."""
        values = list(self._values_of(fact))
        for position, ranks in self._ranked:
            if values[position] is not None and values[position] not in ranks:
                raise ValueError(f"{self._plain[position]} is not one of {', '.join(ranks)}")
        at, rank, event_id = fact.version
        said = version_bytes(at, rank, event_id, b"")
        for first, others, names, sequence in self._versioned:
            value = values[first]
            if not others and sequence is None:
                values.append(UNSET if value is None else said + canonical_json({names[0]: value}))
                continue
            members = (value, *[values[i] for i in others])
            if value is None and members.count(None) == len(members):
                values.append(UNSET)
                continue
            canonical = canonical_json(dict(zip(names, members, strict=True)))
            if sequence is None:
                values.append(said + canonical)
            else:
                values.append(version_bytes(None, sequence.index(value), event_id, canonical))
        if self.has_constants:
            values.append(False)
        return tuple(values)

    def key(self, row: Row) -> Row:
        return row[: self._key_count]

    def join(self, left: Row, right: Row) -> Row:
        """The least row that is at or above both."""
        merged = list(left)
        disagrees = False
        for group in self.groups:
            if group.is_constant:
                member = group.members[0]
                ours, theirs = left[member], right[member]
                disagrees = disagrees or (ours is not None and theirs is not None and ours != theirs)
            known, said = left[group.version], right[group.version]
            if said == UNSET:
                continue
            if said > known:
                merged[group.version] = said
            if not group.is_constant and known != UNSET and said.startswith(version_head(known)):
                for member in group.members:
                    merged[member] = _greater(left[member], right[member])
            elif said > known:
                for member in group.members:
                    merged[member] = right[member]
        for position, policy in self.independent:
            merged[position] = _join_value(policy, left[position], right[position])
        if disagrees:
            merged[-1] = True
        return tuple(merged)

    def join_all(self, rows: Iterable[Row]) -> list[Row]:
        """One row per key, sorted by key so that concurrent writers lock in one order."""
        joined: dict[Row, Row] = {}
        width = self._key_count
        for row in rows:
            key = row[:width]
            known = joined.get(key)
            joined[key] = row if known is None else self.join(known, row)
        return [joined[key] for key in sorted(joined)]

    @cached_property
    def independent(self) -> tuple[tuple[int, Policy], ...]:
        """Columns that merge by themselves: neither keys nor under a version."""
        grouped = {i for group in self.groups for i in (*group.members, group.version)}
        return tuple(
            (i, column.policy)
            for i, column in enumerate(self.columns)
            if i not in grouped and not isinstance(column.policy, Key)
        )

    @property
    def names(self) -> str:
        """The stored columns, as a list for SQL."""
        return ", ".join(column.name for column in self.columns)

    def arrays(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """Transpose rows into the parameters of `table_sql.upsert`."""
        return list(zip(*rows, strict=True))


def _join_value(policy: Policy, left: Any, right: Any) -> Any:
    if left is not None and right is not None:
        if isinstance(policy, Min):
            return min(left, right)
        if isinstance(policy, Ranked):
            return max(left, right, key=policy.values.index)
    return _greater(left, right)


def _greater(left: Any, right: Any) -> Any:
    """As SQL's GREATEST: NULL is less than every value."""
    if left is None or right is None:
        return right if left is None else left
    return max(left, right)


def _declared_columns(fact: type[Fact]) -> list[Column]:
    hints = get_type_hints(fact, include_extras=True)
    columns = []
    for field in dataclasses.fields(fact):
        if field.name == "version":
            continue
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{fact.__name__}.{field.name} declares no merge policy")
        declared, policy = get_args(hint)[:2]
        columns.append(Column(field.name, _value_type(declared), policy))
    return columns


def _value_type(hint: Any) -> type:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if hint not in VALUE_TYPES:
        raise TypeError(f"no column type for {hint}")
    return hint  # type: ignore[no-any-return]


def _group_members(columns: Sequence[Column]) -> dict[str, list[Column]]:
    groups: dict[str, list[Column]] = {}
    for column in columns:
        if isinstance(column.policy, Latest):
            groups.setdefault(column.policy.group, []).append(column)
        elif isinstance(column.policy, Constant):
            groups[column.name] = [column]
    return groups
