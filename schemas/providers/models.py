"""The base of all payload models: a field that a rule does not read can't make its event unreadable.

Pydantic refuses a model for any of its fields. Here an odd field is left out where its event can do without it, and
whoever reads it after all raises what is wrong with it. A payload without odd fields is read as fast as ever.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from schemas.providers.base import Unparsable
from schemas.providers.poison import fault_of

_ODD: Final = "odd fields"
"""Where an instance keeps what is wrong with the fields that it was read without."""

Path = tuple[str | int, ...]

MAX_LISTED: Final = 1000
ItemT = TypeVar("ItemT")


def _require_few(found: Any) -> Any:
    """Before pydantic looks at them: it would describe each of two million wrong ones."""
    if isinstance(found, list) and len(found) > MAX_LISTED:
        raise Unparsable(f"more than {MAX_LISTED:,} of them; providers list a hundred at most")
    return found


Several = Annotated[tuple[ItemT, ...], BeforeValidator(_require_few)]
"""A list inside an event."""


def _first(found: Any) -> Any:
    return found[:1] if isinstance(found, list) else found


FirstOf = Annotated[tuple[ItemT, ...], BeforeValidator(_first)]
"""A list of which rules read the first: a batch may hold twenty thousand of them."""


def require_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unparsable(f"{what}: {'missing' if value is None else 'not an object'}")
    return value


class Model(BaseModel):
    """The fields of a payload that redrive reads."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Raises pydantic's ValidationError for a field that no rule can do without."""
        validate: Callable[..., Self] = cls.__pydantic_validator__.validate_python
        try:
            return validate(obj, **options)
        except ValidationError as error:
            data, odd = _without_odd_fields(validate, obj, error)
            found = validate(data, **options)
        for path, fault in odd.items():
            _mark(found, path, fault)
        return found

    def if_readable(self, name: str) -> Any:
        """A field that its event can do without: None where it is odd."""
        return self.__dict__.get(name)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Only for what an instance does not have."""
            fault = self.__dict__.get(_ODD, {}).get(name)
            if fault is not None:
                raise Unparsable(fault)
            return super().__getattr__(name)


def _without_odd_fields(
    validate: Callable[[Any], Any], data: Any, first: ValidationError
) -> tuple[Any, dict[Path, str]]:
    """The data as the model takes it, and what is wrong with what it was left without. Raises `first` for what no event
    can do without. A null says as little as a field that is not there: it is left out, and nothing is wrong with it.
    """
    odd: dict[Path, str] = {}
    first_below: dict[Path, str] = {}
    error = first
    while True:
        found: dict[Path, str | None] = {}
        for fault in error.errors(include_input=False, include_url=False):
            # An object without a required field is dropped as a whole; so are the nulls of a list.
            is_missing = fault["type"] == "missing"
            path, value = _innermost_field(data, fault["loc"][:-1] if is_missing else fault["loc"])
            if not path:
                raise first
            # A union has a fault of each of its types, and the first one takes the field away.
            found.setdefault(path, None if value is None else fault_of(error.title, fault))
        # Nulls first, and alone: they change the places of what follows in their list.
        nulls = [path for path in found if isinstance(path[-1], int)]
        for path, text in found.items() if not nulls else ():
            if text is not None:
                odd[path] = first_below.get(path, text)
                for length in range(1, len(path) + 1):
                    first_below.setdefault(path[:length], odd[path])
        data = _without(data, _tree(nulls or list(found)))
        try:
            validate(data)
            return data, odd
        except ValidationError as remaining:
            error = remaining


def _innermost_field(data: Any, where: Sequence[str | int]) -> tuple[Path, Any]:
    """(its path, its value); () if the data itself is at fault. A null in a list counts as a field. A fault's place
    ends with the names of unions, which are not keys.
    """
    found: tuple[Path, Any] = (), data
    path: Path = ()
    for part in where:
        is_key = isinstance(data, dict) and part in data
        if not is_key and not (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            break
        data, path = data[part], (*path, part)
        found = (path, data) if is_key or data is None else found
    return found


Tree = dict[str | int, "Tree | None"]
"""Paths that share their beginnings; None is where one ends."""


def _tree(paths: Sequence[Path]) -> Tree:
    root: Tree = {}
    for path in paths:
        node: Tree | None = root
        for part in path[:-1]:
            node = node.setdefault(part, {}) if node is not None else None
        if node is not None:
            node[path[-1]] = None
    return root


def _without(data: Any, away: Tree) -> Any:
    """All of them at once, so that thousands of odd fields cost one copy."""

    def left(part: str | int, value: Any) -> Any:
        below = away.get(part)
        return value if below is None else _without(value, below)

    if isinstance(data, list):
        return [left(place, item) for place, item in enumerate(data) if away.get(place, away) is not None]
    return {name: left(name, value) for name, value in data.items() if away.get(name, away) is not None}


def _mark(found: Any, path: Path, fault: str) -> None:
    """The field of the innermost model on the way to what was left out."""
    marked: tuple[Model, str] | None = None
    for part in path:
        if isinstance(found, Model):
            fields = type(found).model_fields.items()
            name = next(name for name, field in fields if part in (field.alias, name))
            marked, found = (found, name), found.__dict__.get(name)
        else:
            found = found[part] if isinstance(found, tuple) and isinstance(part, int) and part < len(found) else None
    if marked is not None:
        model, name = marked
        model.__dict__.pop(name, None)
        model.__dict__.setdefault(_ODD, {})[name] = fault
