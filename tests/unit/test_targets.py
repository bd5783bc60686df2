"""Targets as they are named, the addresses that they may have, and the requests that they get. No sockets."""

from typing import Any

import pytest
from aiohttp.abc import ResolveResult
from pydantic import ValidationError

from replay.targets.addresses import AllowedResolver, require_allowed
from replay.targets.document import HttpTarget, TopicTarget, parse_target, target_of
from schemas.errors import InvalidSelection, Unavailable
from schemas.settings import FileConfig
from schemas.targets import ReplayConfig
from tests.support.endpoints import Names

AT_HOME = HttpTarget("http://localhost:3000/hooks/")
NO_TARGETS = {
    "a user": "http://me:secret@localhost/",
    "a user that looks like a host": "http://localhost:80@169.254.169.254/",
    "a backslash": "http://localhost\\@169.254.169.254/",
    "a query": "http://localhost/?token=1",
    "a fragment": "http://localhost/#x",
    "another scheme": "ftp://localhost/",
    "a file": "file:///etc/passwd",
    "no host": "http:///x",
    "a port that is none": "http://localhost:99999/",
    "a zone": "http://[fe80::1%25eth0]/",
    "white space": "http://local host/",
    "a line break": "http://localhost/\r\nHost: x",
    "not ASCII": "http://localhoſt/",
    "decimal": "http://2130706433/",
    "decimal, the metadata": "http://2852039166/",
    "octal": "http://0177.0.0.1/",
    "octal, the metadata": "http://0251.0376.0251.0376/",
    "hexadecimal": "http://0x7f000001/",
    "hexadecimal octets": "http://0xa9.0xfe.0xa9.0xfe/",
    "short": "http://127.1/",
    "five numbers": "http://127.0.0.0.1/",
    "a number too large": "http://256.0.0.1/",
    "a trailing dot hides nothing": "http://2130706433./",
    "an empty label": "http://a..b/",
    "redrive's own topic": "topic:webhooks.stripe",
    "the dead letters": "topic:webhooks.dead-letter",
    "the hosts' window": "topic:redrive.window",
    "Kafka's own topic": "topic:__consumer_offsets",
    "no topic": "topic:",
    "no name of a topic": "topic:a/b",
}


@pytest.mark.parametrize("text", NO_TARGETS.values(), ids=NO_TARGETS.keys())
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidSelection):
        parse_target(text)


@pytest.mark.parametrize(
    "target",
    [TopicTarget("copies"), AT_HOME, HttpTarget("https://[::1]:8443/x", resign=True, concurrency=3)],
    ids=str,
)
def test_a_target_survives_the_ledger(target: TopicTarget | HttpTarget) -> None:
    assert target_of(target.as_document()) == target
    if target != HttpTarget("https://[::1]:8443/x", resign=True, concurrency=3):
        assert target_of(str(target)) == target


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "topic"},
        {"kind": "topic", "topic": 5},
        {"kind": "http", "url": "http://localhost", "secret": "x"},
        {"kind": "http", "url": "http://localhost", "concurrency": True},
        {"kind": "http", "url": "http://localhost", "concurrency": 65},
        {"kind": "http", "url": "http://localhost", "concurrency": 0},
        {"kind": "ftp", "url": "http://localhost"},
        ["http://localhost"],
        5,
    ],
)
def test_a_document_that_is_none_is_refused(document: object) -> None:
    with pytest.raises(InvalidSelection):
        target_of(document)


def test_the_parts_of_an_address_are_those_of_the_text() -> None:
    target = HttpTarget("http://LocalHost:3000/A/b")
    assert (target.host, target.authority, target.origin) == ("localhost", "localhost:3000", "http://localhost:3000")
    assert (target.path, HttpTarget("http://[::1]").path, HttpTarget("http://[::1]:1").host) == ("/A/b", "/", "::1")


ALLOWED = ReplayConfig.model_validate({"allow_hosts": ["Hooks.Example", "10.1.0.0/16", "203.0.113.9", "fd00::/8"]})


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "203.0.113.9", "fd00::5", "8.8.8.8"]
)
def test_loopback_and_what_is_listed_may_be_called(address: str) -> None:
    require_allowed("hooks.example", address, ALLOWED.allow_hosts)


@pytest.mark.parametrize(
    "address",
    [
        "10.2.0.1",
        "192.168.0.1",
        "100.100.100.200",
        "172.16.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::ffff:10.2.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_a_listed_name_that_leads_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(InvalidSelection):
        require_allowed("hooks.example", address, ALLOWED.allow_hosts)


def test_no_list_opens_the_metadata_of_a_cloud() -> None:
    everything = ReplayConfig.model_validate({"allow_hosts": ["0.0.0.0/0", "::/0"]}).allow_hosts
    require_allowed("anywhere", "10.2.0.1", everything)
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1"):
        with pytest.raises(InvalidSelection, match="never"):
            require_allowed("anywhere", address, everything)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_a_public_host_that_is_not_listed_is_refused(address: str) -> None:
    for host in ("other.example", "sub.hooks.example", address):
        with pytest.raises(InvalidSelection):
            require_allowed(host, address, ALLOWED.allow_hosts)


async def test_a_name_is_asked_about_each_time_that_it_resolves() -> None:
    resolver = AllowedResolver(ALLOWED.allow_hosts, Names(["8.8.8.8"], ["8.8.4.4", "169.254.169.254"]))
    await resolver.require("hooks.example")
    with pytest.raises(InvalidSelection):
        await resolver.resolve("hooks.example")


async def test_a_name_that_does_not_resolve_is_planned_for_only_if_the_list_has_it() -> None:
    """Nobody knows that another one is loopback."""

    class Nobody(Names):
        async def resolve(self, *_: Any, **__: Any) -> list[ResolveResult]:
            raise OSError("Name or service not known")

    resolver = AllowedResolver(ALLOWED.allow_hosts, Nobody())
    await resolver.require_planned("hooks.example")
    with pytest.raises(InvalidSelection, match="only loopback is called"):
        await resolver.require_planned("example.com")
    with pytest.raises(Unavailable, match="does not resolve"):
        await resolver.require("example.com")


@pytest.mark.parametrize("entry", ["", "a b", "http://x", "10.0.0.0/33", "x/y", "a..b", "*.example"])
def test_an_entry_of_the_list_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError):
        FileConfig.model_validate({"replay": {"allow_hosts": [entry]}})
