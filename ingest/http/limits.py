"""The limits of addresses, rates and sizes. Checked before anything is read or verified."""

import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from ingest import metrics
from ingest.dedupe.id_table import IdTable
from schemas.errors import RejectedDelivery, Unavailable
from schemas.limits import LimitsConfig, Network
from schemas.settings import Source
from schemas.short_cache import cache_short

FORWARDED_FOR: Final = "x-forwarded-for"


class Limits:
    """Rates are shared by the processes on one table; what is in flight is this process's.

    `now` is seconds of a clock that all processes of the host share.
    """

    def __init__(self, config: LimitsConfig, table: IdTable, now: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._table = table
        self._now = now
        self.bytes_in_flight = 0
        self.connections = 0
        self._by_peer: dict[str, int] = {}

    def connect(self, peer: str) -> bool:
        """True if one more connection from there is within the limits; it counts from then on."""
        of_peer = self._by_peer.get(peer, 0)
        per_address = self.config.connections_per_address
        if self.connections >= self.config.connections or (per_address is not None and of_peer >= per_address):
            return False
        self.connections += 1
        self._by_peer[peer] = of_peer + 1
        metrics.CONNECTIONS.set(self.connections)
        return True

    def disconnect(self, peer: str) -> None:
        self.connections -= 1
        left = self._by_peer.pop(peer) - 1
        if left:
            self._by_peer[peer] = left
        metrics.CONNECTIONS.set(self.connections)

    def caller(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address that calls: the peer's, or what proxies of ours say of it."""
        if not self.config.trusted_proxies or not _is_in(peer, self.config.trusted_proxies):
            return peer
        # Some proxies append a line of their own to those of the caller: all of them are one list (RFC 9110, 5.3).
        said = ",".join([value for name, value in headers.items() if name.lower() == FORWARDED_FOR])
        for address in reversed([one.strip() for one in said.split(",") if one.strip()]):
            if not _is_in(address, self.config.trusted_proxies):
                return address
        return peer

    def admit(self, source: Source, caller: str) -> None:
        """Raises `address_not_allowed` or `too_many_requests`."""
        if source.allow_from and not _is_in(caller, source.allow_from):
            raise RejectedDelivery("address_not_allowed")
        rate = source.requests_per_second
        if rate is None:
            return
        try:
            wait = self._table.take_token(
                self._table.number_of(source.topic), source.burst or max(rate, 1.0), rate, self._now()
            )
        except Unavailable:
            # Nobody knows the count for the moment; turning everybody away would be worse than a few too many.
            return
        if wait:
            raise RejectedDelivery("too_many_requests")

    def hold(self, size: int) -> None:
        """Bytes of a body that is on its way. Raises `overloaded`, and then nothing is held."""
        if self.bytes_in_flight + size > self.config.in_flight_bytes:
            raise RejectedDelivery("overloaded")
        self.bytes_in_flight += size

    def free(self, size: int) -> None:
        self.bytes_in_flight -= size


@cache_short(entries=4096, characters=64)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    # A socket of both families shows IPv4 callers as ::ffff:1.2.3.4.
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _is_in(text: str, networks: Iterable[Network]) -> bool:
    """False for a text that is not an address."""
    address = _address(text)
    return address is not None and any([address in network for network in networks])
