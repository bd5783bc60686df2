"""Exit codes: 0 done, 1 failed, 2 usage, 69 a dependency is down, 78 misconfigured; and the errors behind them.

Must not import the client of a server: whoever raised its error has imported it.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from schemas.errors import InvalidSelection, Misconfigured, NothingSelected, RedriveError, Unavailable

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69
EXIT_MISCONFIGURED: Final = 78


class Failed(RedriveError):
    """The command did what it could, and the outcome is a failure."""

    code = "failed"


class Reported(SystemExit):
    """The command has printed everything, in the form that was asked for; only the exit code is left."""


_EXITS: Final = {
    Misconfigured: EXIT_MISCONFIGURED,
    Unavailable: EXIT_UNAVAILABLE,
    NothingSelected: EXIT_FAILED,
    InvalidSelection: EXIT_USAGE,
    Failed: EXIT_FAILED,
}


@contextmanager
def exit_codes(report: Callable[[RedriveError], None]) -> Iterator[None]:
    """Exit with the code of an error, once `report` has shown it. An error that nobody foresaw passes."""
    try:
        yield
    except Exception as error:
        known = _explained(error)
        if known is None:
            raise
        report(known)
        sys.exit(next((code for kind, code in _EXITS.items() if isinstance(known, kind)), EXIT_FAILED))


def _explained(error: Exception) -> RedriveError | None:
    if isinstance(error, RedriveError) and error.__cause__ is None:
        return error
    # Imported here: it imports the client of every server, and most commands fail at none.
    from deploy.library_errors import explained

    return explained(error)


def report_line(error: RedriveError) -> None:
    """On stderr, as a service that has no log yet says it."""
    print(f"redrive: {error}", file=sys.stderr)
