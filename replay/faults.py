"""The faults of a document that a user passed, in words. Must not quote a value of it."""

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """`change.credits: Input should be a valid integer`: by its place, where it has one."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in fault["loc"])[:100]
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
