"""The short road reads a request as aiohttp's parser does, or not at all: two readings would be a way to smuggle."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.http.whole_request import read_whole
from tests.fuzz.http import BODY, PLAIN, START, check_read_alike


def request(*lines: bytes, body: bytes = BODY, start: bytes = START) -> bytes:
    return b"\r\n".join([start, *lines]) + b"\r\n\r\n" + body


HOST, LENGTH = b"Host: h", b"Content-Length: 14"


def test_what_providers_send_takes_the_short_road() -> None:
    assert check_read_alike(PLAIN)
    assert read_whole(PLAIN, 128, 8190) == (
        "/webhooks/stripe?a=b",
        {
            "host": "127.0.0.1:8080",
            "content-type": "application/json",
            "stripe-signature": "t=1,v1=ab",
            "content-length": "14",
        },
        BODY,
    )
    assert check_read_alike(request(HOST, LENGTH, b"Connection: keep-alive"))
    assert check_read_alike(request(HOST, b"Content-Length: 0", body=b""))


@pytest.mark.parametrize(
    "data",
    [
        request(HOST, LENGTH, LENGTH),
        request(HOST, LENGTH, b"content-length: 15"),
        request(HOST, LENGTH, b"Transfer-Encoding: chunked"),
        request(HOST, b"Content-Length: +14"),
        request(HOST, b"Content-Length: 014"),
        request(HOST, b"Content-Length: 14, 14"),
        request(HOST, b"Content-Length: 0xe"),
        request(HOST, b"Content-Length: 13"),
        request(HOST, b"Content-Length : 14"),
        request(HOST, b" Content-Length: 14"),
        request(HOST, LENGTH, b"X: a", b" folded"),
        request(HOST, LENGTH, b"X: a\nContent-Length: 3"),
        request(HOST, LENGTH, b"X: a\rContent-Length: 3"),
        request(HOST, LENGTH, b"X: a\0b"),
        request(HOST, LENGTH, b"X: \xff"),
        request(HOST, LENGTH, b"X\xc4\xb0: a"),
        request(HOST, LENGTH, b"X"),
        request(HOST, LENGTH, b": a"),
        request(HOST, LENGTH, b"Expect: 100-continue"),
        request(HOST, LENGTH, b"Upgrade: h2c", b"Connection: Upgrade"),
        request(HOST, LENGTH, b"Connection: close"),
        request(HOST, LENGTH, b"Sec-WebSocket-Key1: a"),
        request(HOST, LENGTH, b"Content-Encoding: gzip"),
        request(HOST),
        request(LENGTH),
        request(HOST, LENGTH, body=BODY + b"POST / HTTP/1.1\r\n"),
        request(HOST, LENGTH, body=BODY[:-1]),
        request(HOST, LENGTH, start=b"POST /webhooks/stripe HTTP/1.0"),
        request(HOST, LENGTH, start=b"POST /webhooks/stripe  HTTP/1.1"),
        request(HOST, LENGTH, start=b"POST /webhooks/a b HTTP/1.1"),
        request(HOST, LENGTH, start=b"POST /webhooks/stripe#x HTTP/1.1"),
        request(HOST, LENGTH, start=b"GET /webhooks/stripe HTTP/1.1"),
        request(HOST, LENGTH, start=b"post /webhooks/stripe HTTP/1.1"),
        request(HOST, LENGTH, *[b"X-%d: a" % number for number in range(127)]),
        request(HOST, LENGTH, b"X: " + b"a" * 8190),
        PLAIN[:-1],
        PLAIN[:60],
        b"\r\n" + PLAIN,
    ],
)
def test_whatever_differs_is_left_to_aiohttp(data: bytes) -> None:
    assert not check_read_alike(data)


names = st.sampled_from(
    [b"Host", b"host", b"Content-Length", b"Transfer-Encoding", b"X-A", b"Connection", b"Stripe-Signature", b"Accept"]
) | st.binary(min_size=1, max_size=6)
values = st.sampled_from([b"14", b"h", b"chunked", b"close", b"keep-alive", b"a:b", b" a ", b"", b"\t14"]) | st.binary(
    max_size=8
)
separators = st.sampled_from([b": "] * 8 + [b":", b" : ", b""])
ends = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\n ", b"\r\n\r\n"])
line = st.builds(lambda *parts: b"".join(parts), names, separators, values, ends)
starts = st.sampled_from([b"POST /webhooks/stripe HTTP/1.1\r\n"] * 6) | st.builds(
    lambda target, end: b"POST /webhooks/" + target + b" HTTP/1.1" + end, st.binary(max_size=8), ends
)


@given(starts, st.lists(line, max_size=6), st.sampled_from([BODY, b"", BODY + b"x"]))
@example(b"POST /webhooks/stripe HTTP/1.1\r\n", [b"Host: h\r\n", b"Content-Length: 14\r\n"], BODY)
def test_no_two_readings_of_one_request(start: bytes, lines: list[bytes], body: bytes) -> None:
    check_read_alike(start + b"".join(lines) + b"\r\n" + body)
    check_read_alike(start + b"Host: h\r\nContent-Length: %d\r\n" % len(body) + b"".join(lines) + b"\r\n" + body)


@given(st.data())
def test_no_byte_changed_makes_two_readings(data: st.DataObject) -> None:
    changed = bytearray(PLAIN)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    check_read_alike(bytes(changed))
