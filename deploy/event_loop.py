"""The event loop of a process: uvloop, with garbage collections that suit what it does."""

import gc
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

T = TypeVar("T")

YOUNG_OF_READERS: Final = 500_000
"""A reader of the log holds some ten thousand records at once, each of a dozen objects: with the other services'
limits, the collector took a fifth of the time to look at them again and again."""


def tune_garbage_collection(young: int = 50_000) -> None:
    """After start-up: what lives for good is not looked at again, and young garbage is collected in larger lots.

    A seventh of a busy service's time went into collections that found next to nothing. `young` objects are a lot.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 20, 100)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    tune_garbage_collection(YOUNG_OF_READERS)
    return uvloop.run(coroutine)
