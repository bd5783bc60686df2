"""Mutations that know what an input is made of: requests, JSON, forms, words. What they make need not be well-formed."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Self
from urllib.parse import parse_qsl, quote_plus

from tests.fuzz.request import Request

Native = Callable[[bytes], bytes]
"""The fuzzer's own mutation of bytes."""

Sign = Callable[[Request], Request]

LEAVES: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**18, 10**30, 1.5, -0.0, 1e308, float("nan"),
    float("inf"), "", " ", "\0", "a\0b", "\ud800", "\udfff", "😀", "é", "a" * 300, "0", "-1", "1750000000", "9" * 40, "²", [], {},
    [[]], "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "+33612345678", "STOP",
    "whatsapp:+33612345678", "sip:a@b", "Thu, 26 Jun 2025 09:16:20 +0000", "%00", "%ff", "a:b", "***",
)  # fmt: skip
NUMBERS = (b"1e999", b"-1e400", b"1E-999", b"NaN", b"-Infinity", b"-0", b"00", b"0x1", b"9" * 400, b"1.0", b"1e3")
PIECES = (
    "t=", "v1=", "v0=", ",", "=", "sha256=", "v1,", "v1a,", " ", "AA==", "0", "1", "-", "²", "é", "\udcff", "\0", "9" * 21, "d=", "v=",
    "key=k,algorithm=", "HMAC_SHA256", "application/json", "application/x-www-form-urlencoded", "[", "]", ":", "@", "::1", ";charset=",
)  # fmt: skip
METHODS = ("POST", "GET", "PUT", "post")
TARGETS = (
    "?", "?a=b", "?bodySHA256=00", "?%zz=%ff", "/x/y", "?a=1&a=2", "?\udcff", "?MessageSid=SM1&MessageStatus=sent", "?hub.mode=subscribe"
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """What fixtures are written with: keys, texts, header names."""

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    headers: tuple[str, ...] = ()

    @classmethod
    def of(cls, bodies: Iterable[bytes], headers: Sequence[str]) -> Self:
        keys, texts = set[str](), set[str]()
        for body in bodies:
            try:
                _collect(json.loads(body), keys, texts)
            except ValueError:
                for name, value in parse_qsl(body.decode("utf-8", "replace")):
                    keys.add(name)
                    texts.add(value)
        return cls(tuple(sorted(keys)) or ("id",), tuple(sorted(texts)) or ("x",), tuple(headers))

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Self:
        words = {word for text in texts for word in _words(text)}
        return cls(("id",), tuple(sorted(words)))


def _words(text: str) -> list[str]:
    spaced = "".join(c if c.isalnum() else f" {c} " for c in text)
    return spaced.split()


def _collect(node: Any, keys: set[str], texts: set[str]) -> None:
    if isinstance(node, dict):
        keys.update(node)
        for item in node.values():
            _collect(item, keys, texts)
    elif isinstance(node, list):
        for item in node:
            _collect(item, keys, texts)
    elif isinstance(node, str):
        texts.add(node[:200])


def mutate_request(data: bytes, random: Random, native: Native, words: Vocabulary, sign: Sign | None) -> bytes:
    """With `sign`, half of them carry a right signature, and half of those a part of it that is not."""
    kind = random.random()
    if kind < 0.15:
        return native(data)
    request = Request.decode(data)
    if kind < 0.75 or not words.headers:
        request = replace(request, body=_mutate_body(request.body, random, native, words))
    else:
        request = _mutate_head(request, random, words)
    if sign is not None and random.random() < 0.5:
        request = sign(request)
        if random.random() < 0.5:
            request = _mutate_head(request, random, words)
    return request.encode()


def _mutate_head(request: Request, random: Random, words: Vocabulary) -> Request:
    kind = random.random()
    if kind < 0.1:
        return replace(request, method=random.choice(METHODS))
    if kind < 0.25:
        return replace(request, target=f"/webhooks/x{random.choice(TARGETS)}")
    name = random.choice(words.headers)
    headers = dict(request.headers)
    if kind < 0.35:
        headers.pop(name, None)
    elif kind < 0.7:
        text = headers.get(name, "")
        at, length = random.randrange(len(text) + 1), random.randrange(3)
        headers[name] = text[:at] + random.choice(PIECES) + text[at + length :]
    else:
        headers[name] = "".join(random.choices((*PIECES, *words.texts), k=random.randrange(5)))
    return replace(request, headers={header: value.replace("\n", " ") for header, value in headers.items()})


def _mutate_body(body: bytes, random: Random, native: Native, words: Vocabulary) -> bytes:
    if random.random() < 0.15:
        return native(body)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _mutate_form(body, random, words) if b"=" in body else native(body)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        document = _mutate_tree(document, random, words)
    text = json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    if random.random() < 0.05:
        digits = [at for at, byte in enumerate(text) if 48 <= byte <= 57]
        if digits:
            at = random.choice(digits)
            text = text[:at] + random.choice(NUMBERS) + text[at + 1 :]
    return text


def _mutate_tree(node: Any, random: Random, words: Vocabulary) -> Any:
    """Down a random path, and there one change."""
    if isinstance(node, dict | list) and node and random.random() < 0.8:
        key = random.choice(list(node)) if isinstance(node, dict) else random.randrange(len(node))
        copy: Any = node.copy()
        copy[key] = _mutate_tree(node[key], random, words)
        return copy
    kind = random.random()
    if isinstance(node, dict):
        if node and kind < 0.3:
            gone = random.choice(list(node))
            return {name: item for name, item in node.items() if name != gone}
        if node and kind < 0.5:
            old, new = random.choice(list(node)), random.choice(words.keys)
            return {new if name == old else name: item for name, item in node.items()}
        if kind < 0.8:
            return {**node, random.choice(words.keys): _leaf(random, words)}
    if isinstance(node, list):
        if node and kind < 0.3:
            return [*node, random.choice(node)]
        if kind < 0.5:
            return [*node, _leaf(random, words)]
        if node and kind < 0.7:
            return node[1:]
    if kind > 0.95:
        return [node]
    return _leaf(random, words)


def _leaf(random: Random, words: Vocabulary) -> Any:
    return random.choice(LEAVES) if random.random() < 0.6 else random.choice(words.texts)


def _mutate_form(body: bytes, random: Random, words: Vocabulary) -> bytes:
    parts = body.split(b"&")
    at = random.randrange(len(parts))
    leaf = _leaf(random, words)
    value = leaf if isinstance(leaf, str) else str(leaf)
    raw = value if value.startswith("%") else quote_plus(value, errors="surrogatepass")
    name = parts[at].partition(b"=")[0] if random.random() < 0.5 else quote_plus(random.choice(words.keys)).encode()
    new = name + b"=" + raw.encode()
    kind = random.random()
    if kind < 0.6:
        parts[at] = new
    elif kind < 0.9:
        parts.append(new)
    else:
        del parts[at]
    return b"&".join(parts)


def mutate_text(data: bytes, random: Random, native: Native, words: Vocabulary) -> bytes:
    if random.random() < 0.4:
        return native(data)
    piece = random.choice((*words.texts, *words.texts, *_TEXTS, *PIECES))
    at, length = random.randrange(len(data) + 1), random.choice((0, 0, 1, 3, 8))
    # Bytes that are no UTF-8, as the wire can bring them.
    raw = piece.encode("utf-8", "surrogateescape") if "\ud800" not in piece and "\udfff" not in piece else b"\xff"
    return data[:at] + raw + data[at + length :]


_TEXTS = tuple(leaf for leaf in LEAVES if isinstance(leaf, str))
