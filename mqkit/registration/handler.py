"""A registered handler, and whether what it asks for goes together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from mqkit.errors import HandlerError
from mqkit.middleware import Middleware
from mqkit.pause import Pause
from mqkit.registration.injection import Plan
from mqkit.registration.keys import KEY_TYPES, annotation_of, may_be_key
from mqkit.retry import Retry
from mqkit.topology import Queue, Source, Topology, consumer_timeout


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A registered handler."""

    name: str
    """The function's module and qualified name, for logs and dead letters."""
    function: Callable[..., Any]
    is_async: bool
    queue: Queue
    sources: tuple[Source, ...]
    retry: Retry
    prefetch: int
    concurrency: int
    middleware: tuple[Middleware, ...]
    plan: Plan
    timeout: float | None = None
    """Seconds after which a run is a failure, for the retry policy to judge; None is never."""
    cancel_when_lost: bool = False
    """Whether a run is cancelled once its message is lost to it."""
    pause: Pause | None = None
    """When it pauses of its own accord; a store's transaction adds another one."""
    order_by: Callable[[Any], Hashable] | None = None
    """The key of a body; messages of one key are handled one after the other."""
    batch: tuple[int, float] | None = None
    """How many messages one run is for at most, and the seconds in which they come together."""

    @property
    def longest_retry(self) -> float:
        """Seconds: an upper bound of what all retries of one message may take."""
        return self.retry.longest()

    @property
    def code(self) -> CodeType | None:
        """The function's own, under its decorators; None if it has none."""
        function = inspect.unwrap(self.function)
        code = getattr(function, "__code__", None) or getattr(
            getattr(type(function), "__call__", None),  # noqa: B004 - it is not called
            "__code__",
            None,
        )
        return code if isinstance(code, CodeType) else None

    def topology(self) -> Topology:
        """What must exist on the broker for this handler."""
        return Topology.of_queue(self.queue, self.sources)


def check_order(handler: Handler) -> None:
    """See that its order can be kept.

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
    if handler.plan.body is None:
        raise HandlerError(f"{what}: order_by is a function of the body, and it takes none")
    _check_key(handler.order_by, handler.plan.body_type, what)
    limit = consumer_timeout(queue)
    if (longest := handler.longest_retry) >= limit:
        raise HandlerError(
            f"{what}: it keeps an order, so a message is held while it is retried, which may take "
            f"{longest:g} s by its policy; the broker takes it back after {limit:g} s "
            "(x-consumer-timeout). Give the policy an earlier stop, or shorter waits"
        )


def check_wait(handler: Handler) -> None:
    """See that the broker does not take back a message while its batch comes together, and runs.

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
    """See that what `order_by` returns can be a key, as far as annotations show it."""
    annotation = annotation_of(order_by, body_type)
    if not may_be_key(annotation):
        raise HandlerError(f"{what}: order_by is of type {annotation!r}; a key is {KEY_TYPES}")


def refuse_asynchronous_arguments(handler: Handler) -> None:
    """See that a function that runs in a thread takes nothing that it would have to await.

    :raises HandlerError: it does
    """
    for name, kind in handler.plan.injected.items():
        if getattr(kind, "__mqkit_asynchronous__", False):
            raise HandlerError(
                f"handler {handler.name}: argument {name!r} is asynchronous, and a `def` handler "
                "runs in a thread; make the handler `async def`, or provide a BlockingPublisher"
            )
