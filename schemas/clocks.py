"""How far two clocks differ. Pure: other modules read the clocks."""

from typing import Final

WARN_SECONDS: Final = 5.0
"""Clocks that NTP keeps right differ by milliseconds."""


def ahead_seconds(asked: float, theirs: float, answered: float) -> float:
    """The least by which our clock is ahead of another; negative: behind. 0 if they may agree.

    The other clock was read at some moment between two readings of ours. All in seconds since the epoch.
    """
    if theirs < asked:
        return asked - theirs
    return min(answered - theirs, 0.0)


def apart(ahead: float) -> str:
    """`are 7 s apart: ours is ahead`."""
    return f"are {abs(ahead):.0f} s apart: ours is {'ahead' if ahead > 0 else 'behind'}"
