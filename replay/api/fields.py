"""Types of the fields that the operators' API takes: each parses, refuses, and describes itself. Must not route."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from replay.selection.selection import MAX_PAGE, as_list
from replay.selection.selection import Text as Text
from replay.selection.selection import Timestamp as Timestamp

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False, "": False}
_LONGEST_NUMBER: Final = 20


class Parameters(BaseModel):
    """Base of what a path or a query holds: texts, and none that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class OrderDocument(BaseModel):
    """Base of a body. An unknown field is an error: a misspelt `dry_run` would change something."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Nothing(Parameters):
    """Takes no parameters."""


def _flag(value: object) -> object:
    return _FLAGS.get(value.lower(), value) if isinstance(value, str) else value


def _number(value: object) -> object:
    """Digits: `int()` would also take signs, underscores and the numerals of other scripts."""
    if not isinstance(value, str) or (value.isascii() and value.isdigit() and len(value) < _LONGEST_NUMBER):
        return value
    raise ValueError("expected a number, written in digits")


Texts = Annotated[list[Text], Field(min_length=1), BeforeValidator(as_list, json_schema_input_type=Text | list[Text])]
"""One value works like a list of one."""

Flag = Annotated[bool, BeforeValidator(_flag, json_schema_input_type=Literal["true", "false", "1", "0", ""])]
"""A flag of a query, where everything is text."""

PartitionNumber = Annotated[int, Field(ge=0, lt=2**31), BeforeValidator(_number)]
OffsetNumber = Annotated[int, Field(ge=0, lt=2**63 - 1), BeforeValidator(_number)]
RowId = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_number)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(_number)]
"""Rows of a page."""


class Paged(Parameters):
    """A list that comes in pages."""

    limit: Limit = 50
    """Rows of a page."""
    cursor: str | None = None
    """The `cursor` of the previous page, unchanged."""


class Window(Parameters):
    """Arrivals in [from, to)."""

    from_ms: Timestamp | None = Field(None, alias="from")
    """At or after: RFC 3339, or relative like `2h ago`."""
    to_ms: Timestamp | None = Field(None, alias="to")
    """Before."""


class Revealing(Parameters):
    """Something that is shown redacted, or whole."""

    reveal: Flag = False
    """Show everything, once the audit has recorded it."""
    reason: Text | None = None
    """Why it is revealed; `X-Reason` works, too."""


class Reasoned(OrderDocument):
    """The reason goes into the audit. The body may be left out."""

    reason: Text | None = None
