"""Caches of pure functions of texts, bounded in bytes. Must not keep a long text, whoever sends it."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


def cache_short(entries: int, characters: int) -> Callable[[_Function], _Function]:
    """Keep the results of the last `entries` calls whose texts have at most `characters` together.

    Any other call is computed each time. A cache that counts entries alone would keep a body's worth of text in each.
    The arguments are texts, by position.
    """

    def wrap(function: _Function) -> _Function:
        kept = lru_cache(maxsize=entries)(function)

        @wraps(function)
        def call(*texts: str) -> Any:
            return kept(*texts) if sum(map(len, texts)) <= characters else function(*texts)

        return cast(_Function, call)

    return wrap
