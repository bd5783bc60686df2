"""Who comes into the console, and what its answers let a browser do with them; through HTTP."""

import base64
import hashlib
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr

from replay.api.authentication import COOKIE, SECONDS_PER_KEY, SESSION_SECONDS, WRONG_KEYS, Authentication, Throttled
from tests.conftest import Stack
from tests.support.consoles import serving_console
from tests.support.runtimes import runtime_of

KEY = "the right key"
RIGHT = {"X-Admin-API-Key": KEY}
WRONG = {"X-Admin-API-Key": "a wrong key"}


class Page(HTMLParser):
    """What of a page a policy can forbid."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.styles: list[str] = []
        self.tags: list[str] = []
        self.inline: list[str] = []
        self.forms: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag == "form":
            self.forms.append(dict(attrs).get("action"))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "style" and data.strip():
            self.styles.append(data)


@pytest.fixture
async def url(stack: Stack, database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    async def say(_: web.Request) -> web.Response:
        return web.Response(text="said")

    runtime = runtime_of(stack, tmp_path, database_url, ADMIN_API_KEY=KEY)
    async with serving_console(runtime, web.post("/api/say", say)) as found:
        yield found


@pytest.fixture
async def browser(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(url, cookie_jar=jar) as session:
        yield session


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/", RIGHT, 200),
        ("/api/sources", RIGHT, 200),
        ("/api/sources", {}, 401),
        ("/api/nothing", RIGHT, 404),
        ("/healthz", {}, 200),
        ("/metrics", {}, 200),
    ],
)
async def test_every_answer_forbids_frames_sniffing_caches_and_what_lies_elsewhere(
    browser: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
) -> None:
    async with browser.get(path, headers=headers) as answer:
        assert answer.status == status
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action")
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Server"] == "redrive"


async def test_the_pages_need_nothing_that_their_policy_forbids(browser: aiohttp.ClientSession) -> None:
    for headers in ({}, RIGHT):
        async with browser.get("/", headers=headers) as answer:
            policy, page = answer.headers["Content-Security-Policy"], Page(await answer.text())
        allowed = policy.partition("style-src ")[2].split()
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in page.styles]
        assert digests
        assert allowed == [f"'sha256-{one}'" for one in digests]
        assert not {"script", "img", "link", "iframe", "object", "base"} & set(page.tags)
        assert page.inline == []
        assert "form-action 'self'" in policy
        assert all(action and action.startswith("/") for action in page.forms)


async def test_the_key_becomes_a_session_that_scripts_and_other_sites_do_not_get(
    browser: aiohttp.ClientSession,
) -> None:
    async with browser.post("/login", data={"key": KEY}, allow_redirects=False) as answer:
        assert answer.status == 303
        cookie = answer.cookies[COOKIE]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert not cookie["secure"], "over plain HTTP a browser would drop it"
        assert KEY not in cookie.value
    async with browser.get("/") as answer:
        assert answer.status == 200
        assert "Every webhook" in await answer.text()
    async with browser.post("/login", data={"key": KEY}, headers={"X-Forwarded-Proto": "https"}) as answer:
        assert answer.history[0].cookies[COOKIE]["secure"]


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), (None, 200), ("same-site", 403), ("cross-site", 403)]
)
async def test_a_session_does_nothing_for_another_site(
    browser: aiohttp.ClientSession, site: str | None, status: int
) -> None:
    await browser.post("/login", data={"key": KEY})
    headers = {"Sec-Fetch-Site": site} if site else {}
    async with browser.post("/api/say", headers=headers) as answer:
        assert answer.status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://console.example.evil.example", "Host": "console.example"}, 403),
        ({"Origin": "http://console.example:8083", "Host": "console.example"}, 403),
        ({"Origin": "http://console.example", "Host": "Console.example"}, 200),
        ({"Origin": "https://console.example", "Host": "10.0.0.7:8083", "X-Forwarded-Host": "console.example"}, 200),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_where_a_browser_says_no_more_than_its_origin_that_decides(
    browser: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    """Over plain HTTP there is no `Sec-Fetch-Site`."""
    await browser.post("/login", data={"key": KEY})
    async with browser.post("/api/say", headers=headers) as answer:
        assert answer.status == status


async def test_wrong_keys_are_throttled_and_sessions_go_on(browser: aiohttp.ClientSession) -> None:
    await browser.post("/login", data={"key": KEY})
    for _ in range(WRONG_KEYS // 2):
        async with browser.get("/api/sources", headers=WRONG) as answer:
            assert answer.status == 401
        async with browser.post("/login", data={"key": "wrong"}) as answer:
            assert answer.status == 401
            assert "not the key" in await answer.text()
    async with browser.post("/login", data={"key": "wrong"}) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert "wait" in await answer.text()
    async with browser.get("/api/sources", headers=WRONG) as answer:
        assert answer.status == 429
        assert (await answer.json())["code"] == "too_many_requests"
    async with browser.get("/api/sources", headers=RIGHT) as answer:
        assert answer.status == 200, "whoever guesses may stand behind the same proxy"
    async with browser.get("/api/sources") as answer:
        assert answer.status == 200, "an operator who is in stays in"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/api/sources", "GET"), ("GET", "/api/say", "POST"), ("PUT", "/readyz", "GET")],
)
async def test_a_method_that_is_not_allowed_hears_which_are(
    browser: aiohttp.ClientSession, method: str, path: str, allowed: str
) -> None:
    async with browser.request(method, path, headers=RIGHT) as answer:
        assert (answer.status, answer.content_type) == (405, "application/problem+json")
        assert allowed in answer.headers["Allow"].replace(",", " ").split()
        assert (await answer.json(content_type=None))["code"] == "method_not_allowed"


async def test_a_body_that_is_no_login_is_not_read_whole(browser: aiohttp.ClientSession) -> None:
    async with browser.post("/login", data={"key": "x" * 100_000}) as answer:
        assert answer.status == 413


def session_of(authentication: Authentication) -> str:
    response = web.Response()
    authentication.start_session(make_mocked_request("POST", "/login"), response)
    return response.cookies[COOKIE].value


def test_a_session_ends_by_itself_and_with_its_key() -> None:
    now = [1_000_000.0]
    authentication = Authentication(SecretStr(KEY), lambda: now[0])
    cookie = session_of(authentication)

    def knows(one: Authentication, value: str) -> bool:
        return one.knows(make_mocked_request("GET", "/", headers={"Cookie": f"{COOKIE}={value}"}))

    assert knows(authentication, cookie)
    assert not knows(Authentication(SecretStr("a new key"), lambda: now[0]), cookie)
    assert not knows(Authentication(None), session_of(Authentication(None)))
    end, _, signature = cookie.partition(".")
    assert not knows(authentication, f"{int(end) + 1}.{signature}")
    assert not knows(authentication, "")
    now[0] += SESSION_SECONDS
    assert not knows(authentication, cookie)


def test_the_throttle_lets_a_key_more_in_with_time() -> None:
    now = [0.0]
    authentication = Authentication(SecretStr(KEY), lambda: now[0])
    request = make_mocked_request("GET", "/")
    for _ in range(WRONG_KEYS):
        assert not authentication.is_key(request, "wrong")
    with pytest.raises(Throttled):
        authentication.is_key(request, "wrong")
    now[0] += SECONDS_PER_KEY
    assert not authentication.is_key(request, "wrong")
    with pytest.raises(Throttled):
        authentication.is_key(request, "wrong")
    assert authentication.is_key(request, KEY)
