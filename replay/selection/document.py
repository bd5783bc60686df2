"""A selection as JSON, as the API takes it, `--any` reads it and the ledger keeps it. Must not ask the log."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr, ValidationError

from replay.faults import first_fault
from replay.selection.selection import By, RowKey, Selection, parse_offsets
from replay.selection.times import parse_time
from schemas import corrections
from schemas.errors import InvalidSelection


def _as_list(value: Any) -> Any:
    """Turn one value into a list of one."""
    return [value] if isinstance(value, str) else value


def _as_keys(value: Any) -> Any:
    return [value] if isinstance(value, list) and value and isinstance(value[0], str) else value


SelectionTexts = Annotated[list[StrictStr], BeforeValidator(_as_list)]
RowKeyTexts = Annotated[list[StrictStr], Field(min_length=2)]


def _named(plural: str, singular: str) -> Any:
    """The flag's name does as well."""
    return Field(default=[], validation_alias=AliasChoices(plural, singular))


class SelectionDocument(BaseModel):
    """A window [from, to), narrowed by what else is named; or, with `any` alone, a union of such selections.

    Times are RFC 3339, or relative like `2h ago`. `keys` are rows of read models: `["accounts", "stripe", "cus_1"]`.
    """

    model_config = ConfigDict(extra="forbid")

    sources: SelectionTexts = _named("sources", "source")
    from_: StrictStr | None = Field(default=None, alias="from")
    to: StrictStr | None = None
    by: By = "arrival"
    types: SelectionTexts = _named("types", "type")
    event_ids: SelectionTexts = _named("event_ids", "event_id")
    offsets: SelectionTexts = []
    dead_letters: StrictBool = False
    keys: Annotated[list[RowKeyTexts], BeforeValidator(_as_keys)] = _named("keys", "key")
    any: list["SelectionDocument"] = []

    def chosen(self, configured: Iterable[str]) -> Selection:
        """Raises `InvalidSelection`."""
        known = tuple(configured)
        if self.any:
            if self.model_fields_set & set(SelectionDocument.model_fields) != {"any"}:
                raise InvalidSelection("a union has no criteria of its own: give them to its selections")
            return Selection(any_of=tuple(one.chosen(known) for one in self.any))
        if unknown := sorted(set(self.sources) - set(known)):
            raise InvalidSelection(f"no source is called {', '.join(unknown)}; there are: {', '.join(known)}")
        return Selection(
            sources=tuple(dict.fromkeys(self.sources)) or known,
            from_ms=_moment(self.from_),
            to_ms=_moment(self.to),
            by=self.by,
            types=tuple(self.types),
            event_ids=tuple(self.event_ids),
            offsets=tuple(parse_offsets(text) for text in self.offsets),
            is_dead=self.dead_letters,
            keys=tuple(RowKey(model, tuple(values)) for model, *values in self.keys),
        )


def sources_of_log(configured: Iterable[str]) -> tuple[str, ...]:
    """Those that a selection may name. Corrections are part of the log."""
    return (*configured, corrections.SOURCE)


def parse_selection(document: Mapping[str, Any], configured: Iterable[str]) -> Selection:
    """`configured` are the sources that there are, and those of a selection that names none.

    Raises `InvalidSelection`.
    """
    return _read(document).chosen(configured)


def stored_selection(document: object) -> Selection:
    """As the ledger keeps it: its sources may have been taken out of the configuration since.

    Raises `InvalidSelection`.
    """
    found = _read(document)
    return found.chosen(dict.fromkeys(source for one in (found.any or [found]) for source in one.sources))


def _read(document: object) -> SelectionDocument:
    try:
        return SelectionDocument.model_validate(document)
    except ValidationError as error:
        raise InvalidSelection(f"the selection's {first_fault(error)}") from error


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise InvalidSelection(str(error)) from error
