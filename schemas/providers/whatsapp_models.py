"""What WhatsApp's messages, statuses and calls hold, as far as the projections read it."""

from pydantic import Field

from schemas.providers.models import FirstOf, Model


class ErrorData(Model):
    details: str | None = None


class StatusError(Model):
    code: int | str | None = None
    title: str | None = None
    message: str | None = None
    error_data: ErrorData | None = None


def error_of(errors: tuple[StatusError, ...]) -> tuple[str | None, str | None]:
    """(code, text) of the first one."""
    if not errors:
        return None, None
    first = errors[0]
    details = first.error_data.details if first.error_data else None
    return None if first.code is None else str(first.code), details or first.message or first.title


class HistoryContext(Model):
    from_me: bool | None = None
    status: str | None = None


class WhatsAppMessage(Model):
    """A message: inbound, an echo of one that the business wrote on its phone, or of the history from before.

    Since 2026 a user with a username may come without a phone number: `from` may be absent. The content of the message
    is under its type's name.
    """

    id: str = Field(min_length=1)
    sender: str | None = Field(default=None, alias="from")
    to: str | None = None
    group_id: str | None = None
    timestamp: str | int | None = None
    type: str = "unknown"
    history_context: HistoryContext | None = None
    errors: FirstOf[StatusError] = ()


class WhatsAppStatus(Model):
    id: str
    status: str
    timestamp: str | int | None = None
    recipient_id: str | None = None
    recipient_type: str | None = None
    errors: FirstOf[StatusError] = ()


class WhatsAppCall(Model):
    """`connect` and `terminate`. Times are Unix seconds, the duration is seconds; a call that nobody took has no
    `start_time` and no `duration`.
    """

    id: str = Field(min_length=1)
    caller: str | None = Field(default=None, alias="from")
    callee: str | None = Field(default=None, alias="to")
    event: str
    direction: str | None = None
    timestamp: str | int | None = None
    status: str | None = None
    start_time: str | int | None = None
    end_time: str | int | None = None
    duration: int | None = Field(default=None, ge=0, lt=10**9)
    errors: FirstOf[StatusError] = ()


class UserPreference(Model):
    """`stop` or `resume`, for `marketing_messages` as yet. Without a phone number the user has an id."""

    wa_id: str | None = None
    user_id: str | None = None
    category: str = Field(min_length=1)
    value: str = Field(min_length=1)
    timestamp: str | int | None = None
