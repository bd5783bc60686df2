"""The base of all payload models: a field that a rule does not read can't make its event unreadable.

Pydantic refuses a model for any of its fields. Here an odd field is left out where its event can do without it, and
whoever reads it after all raises what is wrong with it. A payload without odd fields is read as fast as ever.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.providers.base import Unparsable
from schemas.providers.poison import fault_of

_ODD: Final = "odd fields"
"""Where an instance keeps what is wrong with the fields that it was read without."""

Path = tuple[str | int, ...]


def require_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unparsable(f"{what}: {'missing' if value is None else 'not an object'}")
    return value


class Model(BaseModel):
    """What is read of a payload."""

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
    error = first
    while True:
        # A union has a fault of each of its types, and the first one takes the field away.
        refused = data
        for fault in error.errors(include_input=False, include_url=False):
            # What misses a field that it can't do without goes as a whole; so do the nulls of a list.
            is_missing = fault["type"] == "missing"
            path, value = _innermost_field(refused, fault["loc"][:-1] if is_missing else fault["loc"])
            if not path:
                raise first
            if isinstance(path[-1], int):
                data = _without(data, path)
                # The places of all that follows in the list have changed.
                break
            inner = [text for known, text in odd.items() if known[: len(path)] == path]
            if value is not None:
                odd[path] = inner[0] if inner else fault_of(error.title, fault)
            data = _without(data, path)
        try:
            validate(data)
            return data, odd
        except ValidationError as remaining:
            error = remaining


def _innermost_field(data: Any, where: Sequence[str | int]) -> tuple[Path, Any]:
    """(its path, its value); () where the data itself is at fault. A null in a list counts as a field. A fault's place
    ends with the names of unions, which are no keys.
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


def _without(data: Any, path: Path) -> Any:
    first, rest = path[0], path[1:]
    if isinstance(data, list) and not rest:
        return [item for item in data if item is not None]
    if isinstance(data, list):
        return [_without(item, rest) if place == first else item for place, item in enumerate(data)]
    if rest and first in data:
        return {**data, first: _without(data[first], rest)}
    return {name: value for name, value in data.items() if name != first}


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
