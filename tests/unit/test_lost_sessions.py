"""Invariant 9: which failures say that a session ended under an event, and which say that Postgres was silent."""

import asyncpg
import pytest

from processors.failures import is_loss


class Connection:
    """Open, closed, or taken back by its pool."""

    def __init__(self, state: str) -> None:
        self._state = state

    def is_closed(self) -> bool:
        if self._state == "taken back":
            raise asyncpg.InterfaceError("released back to the pool")
        return self._state == "closed"


def hidden_by_the_clean_up(error: Exception) -> Exception:
    """As asyncpg raises it: its rollback fails on the closed connection."""
    try:
        try:
            raise error
        finally:
            raise asyncpg.InterfaceError("the underlying connection is closed")
    except asyncpg.InterfaceError as found:
        return found


@pytest.mark.parametrize("state", ["closed", "taken back"])
def test_a_session_that_ended_is_a_loss(state: str) -> None:
    assert is_loss(hidden_by_the_clean_up(asyncpg.AdminShutdownError("x")), Connection(state))
    assert is_loss(ConnectionResetError(), Connection(state))


@pytest.mark.parametrize("error", [TimeoutError(), hidden_by_the_clean_up(TimeoutError())])
def test_a_connection_that_was_closed_because_of_its_silence_is_none(error: Exception) -> None:
    assert not is_loss(error, Connection("closed"))


def test_a_refusal_is_none() -> None:
    assert not is_loss(asyncpg.TooManyConnectionsError("x"), Connection("open"))
