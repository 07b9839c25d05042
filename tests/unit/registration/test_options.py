"""What a registration sees of a handler before it has run."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from mqkit import ConfigurationError, HandlerError, Queue, Retry, Service


def plain(function: Any) -> Any:
    """A decorator that knows nothing of asyncio."""

    @functools.wraps(function)
    def inner(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return inner


def awaiting(function: Any) -> Any:
    """A decorator that does."""

    @functools.wraps(function)
    async def inner(*arguments: Any, **named: Any) -> Any:
        return await function(*arguments, **named)

    return inner


async def coroutine(body: int) -> None:
    pass


async def asynchronous_generator(body: int) -> AsyncIterator[int]:
    yield body


def generator(body: int) -> Iterator[int]:
    yield body


def gives_awaitable(body: int) -> Awaitable[None]:
    return coroutine(body)


def gives_coroutine(body: int) -> Coroutine[Any, Any, None]:
    return coroutine(body)


def gives_future(body: int) -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


def gives_generator(body: int) -> Generator[int]:
    return generator(body)  # type: ignore[return-value]


class Generating:
    """A call of it gives a generator."""

    def __call__(self, body: int) -> Iterator[int]:
        yield body


class GivingAwaitable:
    """A call of it gives a coroutine."""

    def __call__(self, body: int) -> Awaitable[None]:
        return coroutine(body)


class Calling:
    """A call of it is awaited."""

    async def __call__(self, body: int) -> None:
        pass


class Methods:
    """Handlers that are methods."""

    @staticmethod
    async def static(body: int) -> None:
        pass

    async def bound(self, body: int) -> None:
        pass

    @plain
    async def wrapped(self, body: int) -> None:
        pass


def register(function: Callable[..., Any], kind: str) -> Service:
    """As a handler of one message, or of a batch."""
    service = Service("s", retry=Retry.never())
    service.handler(Queue(f"q.{kind}"))(function)
    return service


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (asynchronous_generator, "`yield`"),
        (generator, "`yield`"),
        (functools.partial(generator), "`yield`"),
        (Generating(), "`yield`"),
        (plain(coroutine), "a decorator around it"),
        (plain(plain(coroutine)), "a decorator around it"),
        (plain(generator), "a decorator around it"),
        (plain(asynchronous_generator), "a decorator around it"),
        (functools.partial(plain(coroutine)), "a decorator around it"),
        (Methods().wrapped, "a decorator around it"),
        (gives_awaitable, "returns Awaitable"),
        (gives_coroutine, "returns Coroutine"),
        (gives_future, "returns Future"),
        (gives_generator, "returns Generator"),
        (GivingAwaitable(), "returns Awaitable"),
    ],
)
def test_a_handler_whose_body_a_call_would_not_run_is_refused(
    function: Callable[..., Any], words: str
) -> None:
    """At registration, where it can be seen: it would be acked without having run."""
    with pytest.raises(HandlerError, match=words):
        register(function, "refused")


@pytest.mark.parametrize(
    "function",
    [coroutine, Calling(), Methods.__dict__["static"], Methods().bound, awaiting(coroutine)],
)
def test_what_gives_something_to_await_is_awaited(function: Callable[..., Any]) -> None:
    """Coroutine functions, objects with such a call, static methods, decorators that await."""
    assert register(function, "awaited").handlers[0].is_async


@pytest.mark.parametrize("decorate", [lambda s: s.handler, lambda s: s.batch])
@pytest.mark.parametrize(
    "function", [coroutine, functools.partial(coroutine), Calling(), Methods().bound]
)
def test_a_decorator_without_parentheses_is_refused(
    decorate: Callable[[Service], Any], function: Any
) -> None:
    """It would take the function for a queue, and never run it."""
    service = Service("s", retry=Retry.never())
    with pytest.raises(HandlerError, match=r"without parentheses; write @service\.\w+\(Queue\("):
        decorate(service)(function)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.handler(), 'write @service.handler(Queue("..."))'),
        (lambda s: s.batch(Queue("q")), 'write @service.batch(Queue("..."), size=100, within=1.0)'),
        (lambda s: s.handler(Queue("q"), prefech=3), "no option 'prefech'; did you mean prefetch?"),
        (lambda s: s.handler(Queue("q"), retry=3)(coroutine), "stop=stop_after_attempt(3)"),
        (lambda s: type(s)("t", retry=Retry.never), "or Retry.never(), not <bound method"),
        (lambda s: type(s)("t", midleware=[]), "no option 'midleware'; did you mean middleware?"),
        (lambda s: type(s)(), "Service: missing a required argument: 'name'"),
    ],
)
def test_a_call_that_cannot_work_says_how_it_is_written(
    call: Callable[[Any], Any], words: str
) -> None:
    """What is left out or misspelt is an error of mqkit, which `mqkit run` shows in one line."""
    with pytest.raises(ConfigurationError) as caught:
        call(Service("s", retry=Retry.never()))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"log_errors": "all"}, "log_errors takes 'type', 'text', 'traceback', not 'all'"),
        ({"log_errors": None}, "log_errors takes 'type', 'text', 'traceback', not None"),
        ({"masks": "iban"}, "masks takes a list of names of fields and of compiled patterns"),
        ({"masks": ["iban", 7]}, "as in masks=['iban', re.compile(r'ACC-[0-9]+')], not 7"),
        ({"masks": [""]}, "not ''"),
        ({"masks": re.compile("x")}, "masks takes a list"),
    ],
)
def test_how_errors_are_logged_is_checked(options: dict[str, Any], words: str) -> None:
    """What is none of the words, or no mask, is refused with what to write."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        Service("s", **options)


def test_masks_are_taken_from_anything_that_gives_them() -> None:
    """Once: a generator, too."""
    service = Service("s", masks=(name for name in ("iban", "customer")))
    assert service.error_reports.masker.masks == ("iban", "customer")
