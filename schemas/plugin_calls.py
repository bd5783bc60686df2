"""Calls into code that is not ours: a plug-in's may raise anything. Pure."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from schemas.errors import Exited
from schemas.masking import describe

P = ParamSpec("P")
T = TypeVar("T")


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `function`. Every error is an `Exception`: `Exited` replaces a `sys.exit()`, a
    `KeyboardInterrupt` and the like, which would end the process for every other source.

    Ctrl-C is not among them: services and commands handle that signal in their event loop.
    """
    try:
        return function(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise Exited(describe(error)) from error
