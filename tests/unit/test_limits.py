"""Who may come in and how often: addresses are what our own proxies say, and a rate holds for every process."""

from ipaddress import ip_network
from typing import Any

import pytest

from ingest.dedupe.id_table import IdTable
from ingest.http.limits import Limits
from schemas.errors import RejectedDelivery
from schemas.limits import LimitsConfig
from schemas.providers import PROVIDERS
from schemas.providers.base import Secrets
from schemas.settings import Source

PROXIES = LimitsConfig(trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))


def source(**limits: Any) -> Source:
    return Source("stripe", PROVIDERS["stripe"], Secrets(("s",)), **limits)


def refusal(limits: Limits, one: Source, caller: str = "1.2.3.4") -> str | None:
    try:
        limits.admit(one, caller)
    except RejectedDelivery as rejection:
        return rejection.rejection
    return None


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("1.2.3.4", "9.9.9.9", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ("10.0.0.1", "6.6.6.6, 9.9.9.9, 10.0.0.2", "9.9.9.9"),
        ("::ffff:10.0.0.1", "9.9.9.9", "9.9.9.9"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, garbage", "garbage"),
    ],
)
def test_the_caller_is_the_last_address_that_no_proxy_of_ours_vouches_for(
    peer: str, forwarded: str, caller: str
) -> None:
    assert Limits(PROXIES, IdTable(10)).caller(peer, {"x-forwarded-for": forwarded}) == caller


def test_without_proxies_of_ours_nobody_can_say_who_they_are() -> None:
    assert Limits(LimitsConfig(), IdTable(10)).caller("1.2.3.4", {"x-forwarded-for": "9.9.9.9"}) == "1.2.3.4"


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("1.2.3.4", None),
        ("::ffff:1.2.3.4", None),
        ("1.2.4.4", "address_not_allowed"),
        ("2001:db8::7", None),
        ("garbage", "address_not_allowed"),
        ("", "address_not_allowed"),
    ],
)
def test_a_source_takes_only_from_where_it_says(caller: str, expected: str | None) -> None:
    one = source(allow_from=(ip_network("1.2.3.0/24"), ip_network("2001:db8::/32")))
    assert refusal(Limits(LimitsConfig(), IdTable(10)), one, caller) == expected


def test_a_rate_allows_a_burst_and_then_its_pace() -> None:
    now = [100.0]
    limits = Limits(LimitsConfig(), IdTable(10), lambda: now[0])
    one = source(requests_per_second=2.0, burst=3)
    assert [refusal(limits, one) for _ in range(4)] == [None, None, None, "too_many_requests"]
    now[0] += 0.5
    assert [refusal(limits, one) for _ in range(2)] == [None, "too_many_requests"]
    now[0] += 1000
    assert [refusal(limits, one) for _ in range(4)] == [None, None, None, "too_many_requests"]


def test_processes_share_one_rate() -> None:
    table = IdTable(10, is_shared=True)
    ours = Limits(LimitsConfig(), table, lambda: 100.0)
    theirs = Limits(LimitsConfig(), IdTable(10, descriptor=table.descriptor), lambda: 100.0)
    one = source(requests_per_second=1.0, burst=4)
    assert [refusal(limits, one) for limits in (ours, theirs) * 3] == [None] * 4 + ["too_many_requests"] * 2


def test_one_sources_flood_takes_nothing_from_another() -> None:
    limits = Limits(LimitsConfig(), IdTable(10), lambda: 100.0)
    flooded, other = source(requests_per_second=1.0), source()
    assert [refusal(limits, flooded) for _ in range(5)].count("too_many_requests") == 4
    assert refusal(limits, other) is None


def test_bytes_in_flight_are_bounded_and_come_free() -> None:
    limits = Limits(LimitsConfig(in_flight_bytes=100), IdTable(10))
    limits.hold(60)
    with pytest.raises(RejectedDelivery, match="More is on its way"):
        limits.hold(60)
    limits.free(60)
    limits.hold(100)


def test_connections_are_bounded_in_all_and_from_one_address() -> None:
    limits = Limits(LimitsConfig(connections=3, connections_per_address=2), IdTable(10))
    assert [limits.connect(peer) for peer in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    limits.disconnect("a")
    assert limits.connect("c")
