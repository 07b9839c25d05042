"""Refuses what a handler returns that is no result: its message would be taken for handled."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

from mqkit.errors import HandlerResultError

_DONE = frozenset({str, int, float, bool, bytes, list, dict, tuple, Decimal})
"""Types of which nothing has yet to run: most results are of these."""


def check_result(handler: str, result: Any) -> None:
    """Refuse a result that has yet to run, and an exception that was to be raised.

    :raises HandlerResultError: it is a coroutine or the like, whose body has not run, or an
        exception or a class of them
    """
    if type(result) in _DONE:
        return
    if (name := _exception(result)) is not None:
        raise HandlerResultError(
            f"handler {handler}, or a middleware, returned {name}, which nobody raised: raise it; "
            "in the list that a batch returns, an exception is an object, and not a class"
        )
    if not _is_unrun(result):
        return
    if inspect.iscoroutine(result):
        result.close()  # else Python warns that it was never awaited
    raise HandlerResultError(
        f"handler {handler}, or a middleware, returned a {type(result).__name__}, "
        "whose body has not run to its end: await it, and write the handler, and whatever is "
        "around it, as `async def` without `yield`"
    )


def _exception(result: Any) -> str | None:
    """Name an exception, or a class of them; what it says may be secret."""
    if isinstance(result, BaseException):
        return type(result).__name__
    if isinstance(result, type) and issubclass(result, BaseException):
        return f"the class {result.__name__}"
    return None


def _is_unrun(result: Any) -> bool:
    """Whether a result is awaitable, or a generator: its body has yet to run."""
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)
