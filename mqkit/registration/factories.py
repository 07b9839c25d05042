"""Makes the values of providers, and closes them."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mqkit.registration.injection import Provider


async def make(
    provider: Provider, arguments: Mapping[str, Any], stack: contextlib.AsyncExitStack
) -> Any:
    """Make a provider's value; `stack` closes it."""
    value = provider.factory(**arguments)
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, contextlib.AbstractAsyncContextManager) and _is_manager(provider):
        return await stack.enter_async_context(_Closing(value))
    if isinstance(value, contextlib.AbstractContextManager) and _is_manager(provider):
        return await stack.enter_async_context(_Closing(_Asynchronous(value)))
    return value


class _Asynchronous(contextlib.AbstractAsyncContextManager[Any]):
    """Wraps a plain context manager as an asynchronous one."""

    def __init__(self, manager: contextlib.AbstractContextManager[Any]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        return self._manager.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._manager.__exit__(kind, error, traceback)


class _Closing(contextlib.AbstractAsyncContextManager[Any]):
    """Wraps a provider's value so that its close raises no error that contextlib cannot take.

    Its stacks follow the chain of `__context__` to its end, and one that is a cycle has none: the
    event loop would stand still for ever.
    """

    def __init__(self, manager: contextlib.AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Any:
        return await self._manager.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._manager.__aexit__(kind, error, traceback)
        except BaseException as failure:
            _break_cycle(failure)
            raise


_CONTEXT = BaseException.__dict__["__context__"]
"""Read by this, since a subclass may hide its own."""


def _break_cycle(error: BaseException) -> None:
    """Cut the `__context__` chain of an error where it is a cycle."""
    seen = {id(error)}
    while (context := _CONTEXT.__get__(error)) is not None:
        if id(context) in seen:
            _CONTEXT.__set__(error, None)
            return
        seen.add(id(context))
        error = context


def _is_manager(provider: Provider) -> bool:
    """Whether the factory is a generator function; another's value may happen to be closable."""
    return hasattr(provider.factory, "__wrapped__") and (
        inspect.isgeneratorfunction(provider.factory.__wrapped__)
        or inspect.isasyncgenfunction(provider.factory.__wrapped__)
    )
