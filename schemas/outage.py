"""An outage as a log tells it: a line where it begins and one where it ends, and none at each try in between.

Must not read the clock.
"""


class Outage:
    """An outage of one server, for all its users. `now` is in seconds, of any clock that only goes forward.

    An outage ends when something that it had hit works again: the success of the others proves nothing.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._hit: set[str] = set()

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def begins(self, now: float, what: str = "") -> bool:
        """Note that it hits `what`. True if that is news."""
        is_news = self._since is None
        self._since = now if self._since is None else self._since
        self._hit.add(what)
        return is_news

    def ends(self, now: float, what: str = "") -> float | None:
        """`what` works. How many seconds it lasted; None where that had not been hit."""
        return self.ends_for_all(now) if what in self._hit else None

    def ends_for_all(self, now: float) -> float | None:
        """Whatever it had hit. How many seconds it lasted; None where there is none."""
        if self._since is None:
            return None
        seconds = now - self._since
        self._since = None
        self._hit.clear()
        return seconds
