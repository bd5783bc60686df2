"""How far two clocks stand apart. Pure: who reads the clocks is elsewhere."""

from typing import Final

WARN_SECONDS: Final = 5.0
"""Clocks that are kept right by NTP stand milliseconds apart."""


def ahead_seconds(asked: float, theirs: float, answered: float) -> float:
    """How far our clock stands at least ahead of another; negative: behind. 0 where they may agree.

    The other clock was read at some moment between two readings of ours. All in seconds since the epoch.
    """
    if theirs < asked:
        return asked - theirs
    return min(answered - theirs, 0.0)


def apart(ahead: float) -> str:
    """`are 7 s apart: ours is ahead`."""
    return f"are {abs(ahead):.0f} s apart: ours is {'ahead' if ahead > 0 else 'behind'}"
