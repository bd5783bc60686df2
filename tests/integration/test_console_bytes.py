"""Invariant 3 at the console: whatever bytes a request holds, the console refuses them with a problem, never a 500."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from replay.api.authentication import COOKIE, Authentication
from tests.conftest import Stack, fresh_database
from tests.support.amounts import amount
from tests.support.consoles import serving_console
from tests.support.runtimes import runtime_of
from tests.support.waiting import within

KEY = "the right key"
RIGHT = b"X-Admin-API-Key: " + KEY.encode()
FORM = b"Content-Type: application/x-www-form-urlencoded"
MULTIPART = b"Content-Type: multipart/form-data; boundary=x"
SAY = b"/api/say"
ODD = st.lists(
    st.sampled_from(
        [b"\xff", b"\xed\xa0\x80", b"\xc3\xa9", b"%", b"%f", b"%ff", b"%00", b"%zz", b"%ed%a0%80", b"%C3%A9", b"=", b"&", b";", b",",
         b'"', b"\\303", b"'", b"[", b"]", b"::1", b"@", b":", b"/", b"?", b"#", b"*", b"+", b".", b"-", b"a", b"1", b"9" * 30, b"1" * 2000,
         b"\xe2\x84\x80", b"http://", b"limit=1", b"limit=", b"q=", b"cursor=", b"source=", b"from=", b"reveal=true", b"reason="]
    ) | st.binary(max_size=3).map(lambda raw: raw.translate(None, b"\r\n\0 ")),
    max_size=6,
).map(b"".join)  # fmt: skip
PATHS = st.sampled_from(
    [b"/", b"/login", SAY, b"/openapi.json", b"/healthz", b"/api/events", b"/api/events/stripe/", b"/api/audit", b"/api/dead-letters",
     b"/api/replays", b"/api/replays/", b"/api/proofs/", b"/api/", b"//", b"http://h"]
)  # fmt: skip
TARGETS = st.builds(lambda path, more, query: path + more + b"?" + query, PATHS, ODD, ODD) | PATHS
CODECS = st.sampled_from(
    [b"utf-8", b"nonsense", b"utf-16", b"utf-7", b"idna", b"base64", b"rot13", b"undefined", b"zlib", b"x" * 3000, b""]
)
TYPES = (
    st.builds(lambda codec: FORM + b"; charset=" + codec, CODECS)
    | st.builds(lambda odd: b"Content-Type: multipart/form-data; boundary=" + odd, ODD)
    | st.builds(lambda odd: b"Content-Type: " + odd, ODD)
    | st.sampled_from([FORM, MULTIPART, b"Content-Encoding: gzip", b"Content-Encoding: deflate, br"])
)
NAMED = st.builds(
    lambda name, value: name + b": " + value,
    st.sampled_from(
        [b"Origin", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Operator", b"X-Reason", b"Cookie", b"Sec-Fetch-Site"]
    ),
    ODD,
)
SESSIONS = st.builds(lambda odd: b"Cookie: %s=%s" % (COOKIE.encode(), odd), ODD)
PART = b"--x\r\nContent-Disposition: form-data; name=%s\r\n%s\r\n\r\n%s\r\n--x--\r\n"
BODIES = (
    st.builds(lambda odd: b"key=" + odd, ODD)
    | ODD
    | st.binary(max_size=40)
    | st.builds(lambda name, line, value: PART % (name, line, value), ODD, TYPES, ODD)
    | st.just(b"key=" + KEY.encode())
)


@pytest.fixture(scope="module")
async def console(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[int, bytes]]:
    """(port, a cookie with a session)"""

    async def say(_: web.Request) -> web.Response:
        return web.Response(text="said")

    response = web.Response()
    Authentication(SecretStr(KEY)).start_session(make_mocked_request("POST", "/login"), response)
    async with fresh_database(stack, template) as database:
        runtime = runtime_of(stack, tmp_path_factory.mktemp("data"), database, ADMIN_API_KEY=KEY)
        async with serving_console(runtime, web.post(SAY.decode(), say)) as url:
            yield int(url.rpartition(":")[2]), f"Cookie: {COOKIE}={response.cookies[COOKIE].value}".encode()


async def ask(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    """(status, head, body) of the answer"""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await within(reader.read(), "the answer")
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, body


def request_of(method: bytes, target: bytes, headers: list[bytes], body: bytes = b"") -> bytes:
    fixed = [b"Host: h", b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *fixed, *headers]) + b"\r\n\r\n" + body


def require_answer(status: int, head: bytes, body: bytes) -> None:
    assert status < 500, (head, body)
    if status >= 400 and b"text/html" not in head:
        assert b"application/problem+json" in head
        assert orjson.loads(body)["code"]


@settings(max_examples=amount(200, 2000), deadline=None)
@example(b"GET", b"/", [b"Cookie: %s=\xff.\xfe" % COOKIE.encode()], b"", False)
@example(b"POST", SAY, [b"Origin: http://["], b"", True)
@example(b"POST", SAY, [b"Origin: http://h\xe2\x84\x80"], b"", True)
@example(b"POST", b"/login", [FORM + b"; charset=nonsense"], b"key=a", False)
@example(b"POST", b"/login", [FORM], b"key=\xff", False)
@example(b"POST", b"/login", [MULTIPART], b"no part", False)
@example(b"POST", b"/login", [FORM, b"Content-Encoding: gzip"], b"no gzip", False)
@given(
    method=st.sampled_from([b"GET", b"POST"]),
    target=TARGETS,
    headers=st.lists(TYPES | NAMED | SESSIONS, max_size=4),
    body=BODIES,
    has_session=st.booleans(),
)
async def test_no_bytes_of_a_request_yield_a_500(
    console: tuple[int, bytes], method: bytes, target: bytes, headers: list[bytes], body: bytes, has_session: bool
) -> None:
    port, session = console
    require_answer(*await ask(port, request_of(method, target, [session if has_session else RIGHT, *headers], body)))


@pytest.mark.parametrize(
    "target", [b"/api/events?q=%ff", b"/api/events?q=%", b"/api/events/stripe/%ed%a0%80", b"/?q=%zz", b"/%ff"]
)
async def test_a_target_that_is_not_encoded_as_it_must_be_is_refused(console: tuple[int, bytes], target: bytes) -> None:
    status, _, body = await ask(console[0], request_of(b"GET", target, [RIGHT]))
    assert (status, orjson.loads(body)["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([FORM], b""),
        ([FORM], b"key="),
        ([FORM], b"key"),
        ([FORM], b"key=a&key=b"),
        ([FORM], b"key=%ff"),
        ([FORM], b"%ff=1&key=a"),
        ([FORM], b"key=%zz"),
        ([FORM + b"; charset=utf-16"], b"key=a"),
        ([FORM, b"Content-Encoding: gzip"], b"key=a"),
        ([MULTIPART], PART % (b"key", b"", KEY.encode())),
        ([b"Content-Type: ;;;"], b"key=a"),
        ([], b"key=a"),
    ],
)
async def test_a_form_that_does_not_hold_one_key_is_refused(
    console: tuple[int, bytes], headers: list[bytes], body: bytes
) -> None:
    status, _, answer = await ask(console[0], request_of(b"POST", b"/login", headers, body))
    assert (status, orjson.loads(answer)["code"]) == (400, "bad_request")


async def test_a_form_of_a_browser_is_read(console: tuple[int, bytes]) -> None:
    status, head, _ = await ask(
        console[0], request_of(b"POST", b"/login", [FORM + b"; charset=UTF-8"], b"other=%C3%A9&key=the+right%20key")
    )
    assert status == 303
    assert COOKIE.encode() in head


async def test_a_session_that_is_not_text_leads_to_the_login_page(console: tuple[int, bytes]) -> None:
    """A 400 would keep the browser from the page that replaces its cookie."""
    status, _, body = await ask(console[0], request_of(b"GET", b"/", [b"Cookie: %s=\xff" % COOKIE.encode()]))
    assert status == 401
    assert b"Log in" in body
