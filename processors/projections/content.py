"""The text of a message, wherever its type keeps it, in the form that Meta gives to messages of WhatsApp. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from processors.projections.base import is_opt_out, is_opt_out_button
from schemas.providers.base import Unparsable

_CAPTION: Final = (("caption",),)
_PLACES: Final[dict[str, tuple[tuple[str | int, ...], ...]]] = {
    "text": (("body",),),
    "image": _CAPTION,
    "video": _CAPTION,
    "document": _CAPTION,
    "button": (("text",),),
    "interactive": (
        ("button_reply", "title"),
        ("list_reply", "title"),
        ("list_reply", "description"),
        # The answers to a flow, as raw JSON; the text beside them is always "Sent".
        ("nfm_reply", "response_json"),
        ("nfm_reply", "body"),
        ("call_permission_reply", "response"),
    ),
    "order": (("text",),),
    "location": (("name",), ("address",)),
    "contacts": ((0, "name", "formatted_name"),),
}
"""Type -> where its text may be, beneath the field of the type's name. Other types have none."""

_WRITTEN: Final = {"text": _PLACES["text"]}
_TAPPED: Final[dict[str, tuple[tuple[str | int, ...], ...]]] = {
    "button": _PLACES["button"],
    "interactive": (("button_reply", "title"), ("list_reply", "title")),
}
"""Type -> the fields with words that the sender wrote, or tapped. Sending a place called End opts out of nothing."""

ABOUT_ANOTHER: Final = frozenset({"edit", "revoke", "reaction", "system", "pin", "keep_in_chat", "poll_update"})
"""Types that say something of another message, or of the chat: none of them is a message that somebody wrote."""


def has_text(message: dict[str, Any]) -> bool:
    """True if messages of this type may have a text."""
    return message.get("type") in _PLACES


def text_of(message: dict[str, Any]) -> str | None:
    """None for a message without a text. Raises `Unparsable` where its content is neither an object nor a list."""
    return _first(message, _PLACES)


def says_stop(message: dict[str, Any]) -> bool:
    """True if the sender wrote or tapped that they want no more messages. Raises as `text_of` does."""
    return is_opt_out(_first(message, _WRITTEN)) or is_opt_out_button(_first(message, _TAPPED))


def _first(message: dict[str, Any], where: Mapping[str, tuple[tuple[str | int, ...], ...]]) -> str | None:
    kind = message.get("type")
    if not isinstance(kind, str) or (places := where.get(kind)) is None:
        return None
    content = message.get(kind)
    if content is not None and not isinstance(content, dict | list):
        raise Unparsable(f"{kind}: expected the content of a message, an object or a list")
    for place in places:
        found = _within(content, place)
        if isinstance(found, str) and found:
            return found
    return None


def _within(content: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        if isinstance(step, str):
            content = content.get(step) if isinstance(content, dict) else None
        else:
            content = content[step] if isinstance(content, list) and len(content) > step else None
    return content
