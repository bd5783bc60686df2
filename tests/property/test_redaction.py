"""Whatever a body holds and wherever: redacted, it shows no phone number and no e-mail address."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from schemas.masking import MASK, mask_id, mask_text
from schemas.redaction import AMOUNTS, IDS, KINDS, TIMES, redacted_body

GAPS = st.sampled_from(["", " ", "-", ".", "\xa0", " (0)", ") ", "/"])
SAFE = f"{KINDS} {IDS} {TIMES} {AMOUNTS}".split()
NAMES = st.sampled_from([*SAFE, "from", "text", "Body"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="@"), max_size=8
)
AROUND = st.sampled_from(
    ["{}", "call {} now", "({})", "whatsapp:{}", "a={}&b=1", "<{}>", "é{}é", "{}\n{}", "tel{}", "_{}_"]
)


@st.composite
def phones(draw: st.DrawFn) -> str:
    """`+33 6 12 34 …`: E.164, with the gaps that people write."""
    # Ten or thirteen digits that start with 1 are a time; no country's numbers are.
    country = draw(st.integers(20, 99))
    rest = draw(st.lists(st.integers(10, 999).map(str), min_size=3, max_size=4))
    return f"+{country}" + "".join(draw(GAPS) + part for part in rest)


PLANTED = phones() | st.emails()


@st.composite
def documents(draw: st.DrawFn) -> tuple[Any, list[str]]:
    planted = draw(st.lists(PLANTED, min_size=1, max_size=4))
    leaves: list[Any] = [draw(AROUND).replace("{}", text) for text in planted]
    leaves += [int(digits(text)) for text in planted if is_phone(text) and len(digits(text)) > 10]
    leaf = st.sampled_from(leaves) | st.none() | st.integers() | st.text(max_size=5)
    keys = NAMES | st.sampled_from(planted)
    found = draw(
        st.recursive(leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4))
    )
    return found, planted


def is_phone(text: str) -> bool:
    return "@" not in text


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def texts(value: Any) -> Iterator[str]:
    """Every key and every leaf."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def assert_hidden(shown: list[str], planted: list[str]) -> None:
    for text in planted:
        for one in shown:
            assert text not in one
            assert not is_phone(text) or digits(text) not in digits(one)


@given(documents())
def test_no_json_shows_what_is_personal(found: tuple[Any, list[str]]) -> None:
    document, planted = found
    view = redacted_body(json.dumps(document).encode(), "application/json")
    assert_hidden(list(texts(view.get("shape"))), planted)


@given(st.lists(st.tuples(NAMES | PLANTED, PLANTED), min_size=1, max_size=5))
def test_no_form_shows_what_is_personal(pairs: list[tuple[str, str]]) -> None:
    view = redacted_body(urlencode(pairs).encode(), "application/x-www-form-urlencoded")
    planted = [text for name, value in pairs for text in (name, value) if text is value or "@" in text]
    assert_hidden(list(texts(view.get("shape"))), planted)


@given(st.text(max_size=30), PLANTED, st.text(max_size=30))
def test_no_text_shows_what_stands_in_it(before: str, planted: str, after: str) -> None:
    for text in (f"{before} {planted} {after}", f"{before}:{planted},{after}"):
        masked = mask_text(text)
        assert planted not in masked
        assert mask_text(masked) == masked
        assert planted not in mask_id(text)


@given(PLANTED, PLANTED)
def test_masks_are_stable(one: str, other: str) -> None:
    assert mask_text(one) == mask_text(one)
    assert MASK in mask_text(other)
