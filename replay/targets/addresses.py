"""Which addresses a replay may call: loopback, and what redrive.toml allows. Asked after the name was resolved.

The connection goes to the checked address, so a name that resolves otherwise later gains nothing.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from schemas.errors import InvalidSelection, Unavailable
from schemas.limits import Network

Address = IPv4Address | IPv6Address
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL: Final = (IPv6Network("fec0::/10"), IPv6Network("64:ff9b:1::/48"))
"""Private too, which the library does not know."""

_SETTING: Final = "[replay] allow_hosts in redrive.toml"


def require_allowed(host: str, address: str, allowed: Sequence[Network | str]) -> None:
    """`host` as the target names it; `address` is what it resolves to. Raises `InvalidSelection`."""
    found = _meant(ip_address(address.partition("%")[0]))
    if found.is_loopback:
        return
    named = f"{host} is {found}" if host != str(found) else host
    if found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved:
        # Clouds tell their machines' credentials at link-local addresses: no list opens those.
        raise InvalidSelection(f"{named}: a replay never calls such an address")
    if any(_holds(one, found) for one in allowed if not isinstance(one, str)):
        return
    if not found.is_global or any(_holds(one, found) for one in _LOCAL):
        raise InvalidSelection(f"{named}: a private address is called only if {_SETTING} has it, or its network")
    if host.removesuffix(".") not in allowed:
        raise InvalidSelection(f"{named}: only loopback is called, and what {_SETTING} names")


def _holds(network: Network, address: Address) -> bool:
    return isinstance(network, IPv4Network) == isinstance(address, IPv4Address) and address in network


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 form of it leads to."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address


class AllowedResolver(AbstractResolver):
    """Resolves names to allowed addresses; one that is not refuses the whole answer."""

    def __init__(self, allowed: Sequence[Network | str], inner: AbstractResolver | None = None) -> None:
        self._allowed = allowed
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises `InvalidSelection`, or OSError for a name that there is not."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            require_allowed(host, one["host"], self._allowed)
        return found

    async def require(self, host: str) -> None:
        """Before a replay begins. Raises `InvalidSelection`, or `Unavailable` for a name that does not resolve."""
        try:
            ip_address(host)
        except ValueError:
            try:
                await self.resolve(host)
            except OSError as error:
                raise Unavailable(f"{host} does not resolve") from error
        else:
            require_allowed(host, host, self._allowed)

    async def require_planned(self, host: str) -> None:
        """Before a replay is planned: a name that does not resolve now may do so later, if the list has it; of another
        nobody knows that it is loopback. Raises `InvalidSelection`.
        """
        try:
            await self.require(host)
        except Unavailable as error:
            if host.removesuffix(".") not in self._allowed:
                raise InvalidSelection(f"{error}: only loopback is called, and what {_SETTING} names") from error

    async def close(self) -> None:
        await self._inner.close()
