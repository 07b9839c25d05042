"""Checks of the options of a handler and a service, each by itself and all together."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Hashable, Iterable
from typing import Any, ParamSpec, TypeVar

from mqkit.checks import checked
from mqkit.checks.calls import names_its_options
from mqkit.checks.checked import Seconds
from mqkit.errors import HandlerError, OptionError
from mqkit.logging.error_reports import DETAILS, ErrorReports
from mqkit.logging.masking import Masker
from mqkit.middleware import Middleware
from mqkit.pause import Pause
from mqkit.registration.body_fields import field_getter
from mqkit.registration.handler import Handler
from mqkit.registration.injection import Plan
from mqkit.registration.keys import KEY_TYPES, annotation_of, may_be_key
from mqkit.retry import Retry
from mqkit.topology import Queue, consumer_timeout

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_PREFETCH = 100
"""Messages that the broker may send ahead of their acks, per handler."""

DEFAULT_CONCURRENCY = 20
"""Runs of one handler at the same time."""

MAX_PREFETCH = 65535
"""`basic.qos` carries a short (AMQP 0-9-1, section 1.8.3.1)."""

MAX_BATCH_WAIT = 3600.0
"""Seconds, which `within` is less than: nobody waits longer for a batch to come together."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the function's module and qualified name."""
    module = getattr(function, "__module__", None) or "?"
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling a function gives something to await."""
    return any(inspect.iscoroutinefunction(each) for each in _callees(function))


def _callees(function: Callable[..., Any]) -> tuple[Any, ...]:
    """Return what a call runs: the function behind a partial or static one, its `__call__`."""
    while isinstance(function, functools.partial | staticmethod):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    if isinstance(function, type):
        return (function,)
    return (function, getattr(function, "__call__", None))  # noqa: B004 - the method is inspected


def refuse_unrun(function: Callable[..., Any], what: str) -> None:
    """Refuse a handler whose call would not run its body, as far as that can be seen.

    What this cannot see is an error when the handler is called (`HandlerResultError`).

    :raises HandlerError: a call would give a generator, or a coroutine that nobody awaits
    """
    callees = [each for each in _callees(function) if each is not None]
    for each in callees:
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise HandlerError(
                f"{what}: it has a `yield`, and calling it would not run its body; a handler "
                "returns what it has to say, and publishes by an argument publisher: Publisher. "
                "For what must be closed after a message there is service.provide"
            )
    if is_async(function):
        return
    inner = [inspect.unwrap(each) for each in callees]
    if any(inspect.iscoroutinefunction(each) or _is_generator(each) for each in inner):
        raise HandlerError(
            f"{what}: a decorator around it is a plain `def`, and calling that would not run the "
            "body; make the decorator's inner function `async def`, and await the handler in it "
            "(one that does run it to its end must not set `__wrapped__`, as functools.wraps does)"
        )
    returned = _returned(callees[-1] if not inspect.isfunction(callees[0]) else callees[0])
    if returned is not None and issubclass(returned, _UNRUN):
        raise HandlerError(
            f"{what}: by its annotation it returns {returned.__name__}, whose body would not have "
            "run; write it as `async def`, without `yield`, and await inside"
        )


def _is_generator(function: Any) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _returned(function: Any) -> type | None:
    """Return the class that a function is annotated to return; None if it is no class."""
    try:
        annotation = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):  # told where the arguments are resolved
        return None
    kind = typing.get_origin(annotation) or annotation
    return kind if isinstance(kind, type) else None


_UNRUN = (Awaitable, Generator, AsyncIterator)
"""Types of results whose body has yet to run: coroutines, futures, generators."""


def registers(example: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a decorator for a method that is a decorator itself: it explains calls that cannot work.

    :param example: how the method is called: '@service.handler(Queue("..."))'
    """
    name = example.partition("(")[0]

    def refuse_bare(_: object, function: object = None, /, *__: object) -> None:
        if callable(function) and not isinstance(function, type | Queue):
            raise HandlerError(
                f"handler {name_of(function)}: {name} stands over it without parentheses; "
                f"write {example}"
            )

    what = name.removeprefix("@")
    return names_its_options(what, error=HandlerError, example=example, first=refuse_bare)


def checked_runs(prefetch: int, concurrency: int | None, what: str) -> tuple[int, int]:
    """Check prefetch and concurrency, and return them; the latter has a default.

    :raises HandlerError: they are no numbers, or out of their ranges
    """
    ahead = checked.count(prefetch, f"{what}: prefetch", most=MAX_PREFETCH, error=HandlerError)
    if concurrency is None:
        return ahead, min(ahead, DEFAULT_CONCURRENCY)
    if not checked.is_whole(concurrency, 1, ahead):
        raise HandlerError(
            f"{what}: concurrency is 1 to its prefetch of {ahead}, a whole number, "
            f"not {checked.shown(concurrency)}"
        )
    return ahead, int(concurrency)


def checked_reports(detail: Any, masks: Any, what: str) -> ErrorReports:
    """Make of a service's `log_errors` and `masks` what reports its errors.

    :raises OptionError: one of them is not what it takes
    """
    if detail not in DETAILS:
        raise OptionError(
            f"{what}: log_errors takes {', '.join(map(repr, DETAILS))}, not {checked.shown(detail)}"
        )
    each = None
    if not isinstance(masks, str | re.Pattern) and isinstance(masks, Iterable):
        for each in (masks := list(masks)):
            is_name = isinstance(each, str) and each.strip()
            if not is_name and not (isinstance(each, re.Pattern) and isinstance(each.pattern, str)):
                break
        else:
            return ErrorReports(detail, Masker(masks))
        masks = each
    raise OptionError(
        f"{what}: masks takes a list of names of fields and of compiled patterns, as in "
        f"masks=['iban', re.compile(r'ACC-[0-9]+')], not {checked.shown(masks)}"
    )


def checked_retry(retry: Retry | None, what: str) -> Retry | None:
    """Check a retry policy, and return it; None stays None.

    :raises HandlerError: it is none
    """
    if retry is not None and not isinstance(retry, Retry):
        raise HandlerError(
            f"{what}: retry takes {_example_of_retry(retry)} or Retry.never(), "
            f"not {checked.shown(retry)}"
        )
    return retry


def _example_of_retry(given: object) -> str:
    if checked.is_whole(given, 1):
        attempts = f"stop=stop_after_attempt({given})"
        return f"Retry({attempts}, wait=wait_fixed(5)), strategies of tenacity's,"
    return "Retry(stop=..., wait=...)"


def checked_middleware(middleware: Iterable[Middleware], what: str) -> tuple[Middleware, ...]:
    """Check middleware, and return it as a tuple.

    :raises HandlerError: they are not in a list, or one of them is none
    """
    if not isinstance(middleware, Iterable):
        raise HandlerError(
            f"{what}: middleware takes functions in a list, not {checked.shown(middleware)}"
        )
    functions = tuple(middleware)
    for each in functions:
        if not callable(each) or not is_async(each) or not checked.takes(each, 2):
            raise HandlerError(
                f"{what}: a middleware is an `async def` function of (call, call_next), "
                f"not {checked.shown(each)}"
            )
    return functions


def checked_pause(pause: Pause | None, what: str) -> Pause | None:
    """Check a pause, and return it; None stays None.

    :raises HandlerError: it is none
    """
    if pause is not None and not isinstance(pause, Pause):
        raise HandlerError(f"{what}: pause takes Pause(on=...), not {pause!r}")
    return pause


def checked_order(
    order_by: Callable[[Any], Hashable] | str | None, body: Plan, what: str
) -> Callable[[Any], Hashable] | None:
    """Check `order_by`, and return it as a function of the body.

    :raises HandlerError: it is none, or names no field of the body
    """
    if order_by is None:
        return None
    if body.body is None:
        raise HandlerError(f"{what}: order_by is a function of the body, and it takes none")
    if isinstance(order_by, str):
        return field_getter(order_by, body.body_type, what)
    if not callable(order_by) or is_async(order_by) or not checked.takes(order_by, 1):
        raise HandlerError(
            f"{what}: order_by takes a function of the body, or the name of a field of it, "
            f"not {order_by!r}"
        )
    return order_by


def checked_timeout(timeout: Seconds | None, queue: Queue, what: str) -> float | None:
    """Check a handler's timeout, and return its seconds; None stays None.

    :raises HandlerError: it is none
    """
    if timeout is None:
        return None
    limit = consumer_timeout(queue)
    seconds = checked.as_seconds(timeout)
    if seconds is None or not 0 < seconds < limit:
        raise HandlerError(
            f"{what}: timeout is more than 0 s and less than the consumer timeout of queue "
            f"{queue.name!r}, {limit:g} s, not {checked.shown(timeout)}"
        )
    return seconds


def checked_batch(size: int, within: Seconds, what: str) -> tuple[int, float]:
    """Check the size of a batch and the time it may take to come together.

    :raises HandlerError: it is none
    """
    if not checked.is_whole(size, 1, MAX_PREFETCH):
        raise HandlerError(
            f"{what}: size is a whole number from 1 to {MAX_PREFETCH}, not {checked.shown(size)}"
        )
    seconds = checked.as_seconds(within)
    if seconds is None or not 0 < seconds < MAX_BATCH_WAIT:
        raise HandlerError(
            f"{what}: within is more than 0 s and less than {MAX_BATCH_WAIT:g}, "
            f"not {checked.shown(within)}"
        )
    return size, seconds


def batch_prefetch(prefetch: int | None, size: int, concurrency: int, what: str) -> int:
    """Return the prefetch of a batch: by default twice what its runs take.

    :raises HandlerError: no batch would ever be full
    """
    runs = checked.count(concurrency, f"{what}: concurrency", error=HandlerError)
    ahead = min(2 * size * runs, MAX_PREFETCH) if prefetch is None else prefetch
    if checked.is_whole(ahead, 1) and ahead < size:
        raise HandlerError(
            f"{what}: with a prefetch of {ahead} no batch of {size} ever comes together"
        )
    return ahead


def check_order(handler: Handler) -> None:
    """Check that a handler's order can be kept.

    :raises HandlerError: it cannot
    """
    what, queue = f"handler {handler.name}", handler.queue
    if handler.order_by is None:
        if queue.partitions is not None:
            raise HandlerError(
                f"{what}: queue {queue.name!r} has partitions, which are for handlers with order_by"
            )
        return
    if queue.partitions is None:
        raise HandlerError(
            f"{what}: order_by needs a single consumer at a time: say Queue({queue.name!r}, "
            "partitions=1), or more of them to spread the keys over processes"
        )
    _check_key(handler.order_by, handler.plan.body_type, what)
    limit = consumer_timeout(queue)
    if (longest := handler.longest_retry) >= limit:
        raise HandlerError(
            f"{what}: it keeps an order, so a message is held while it is retried, which may take "
            f"{longest:g} s by its policy; the broker takes it back after {limit:g} s "
            "(x-consumer-timeout). Give the policy an earlier stop, or shorter waits"
        )


def check_batch_wait(handler: Handler) -> None:
    """Check that a batch comes together and runs before the broker takes its messages back.

    :raises HandlerError: it would
    """
    if handler.batch is None:
        return
    limit, longest = consumer_timeout(handler.queue), handler.batch[1] + (handler.timeout or 0.0)
    if longest >= limit:
        raise HandlerError(
            f"handler {handler.name}: its first message waits for a batch, and runs, for up to "
            f"{longest:g} s; the broker takes it back after {limit:g} s (x-consumer-timeout). "
            "Give the batch a shorter `within`, or the queue a longer timeout"
        )


def _check_key(order_by: Callable[[Any], Hashable], body_type: Any, what: str) -> None:
    """Check that what `order_by` returns can be a key, as far as annotations show it."""
    annotation = annotation_of(order_by, body_type)
    if not may_be_key(annotation):
        raise HandlerError(f"{what}: order_by is of type {annotation!r}; a key is {KEY_TYPES}")


def refuse_asynchronous_arguments(handler: Handler) -> None:
    """Refuse a function that runs in a thread and takes what it would have to await.

    :raises HandlerError: it does
    """
    for name, kind in handler.plan.injected.items():
        if getattr(kind, "__mqkit_asynchronous__", False):
            raise HandlerError(
                f"handler {handler.name}: argument {name!r} is asynchronous, and a `def` handler "
                "runs in a thread; make the handler `async def`, or provide a BlockingPublisher"
            )
