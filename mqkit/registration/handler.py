"""A registered handler: its function, its queue, and every option, checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from mqkit.middleware import Middleware
from mqkit.pause import Pause
from mqkit.registration.injection import Plan
from mqkit.retry import Retry
from mqkit.topology import Queue, Source, Topology


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
    share_commits: bool = True
    """Whether runs that are ready at the same time may share a store's transaction."""

    @property
    def at_once(self) -> int:
        """How many of its runs go on at a time in one process."""
        return self.concurrency * (self.queue.partitions or 1)

    @property
    def longest_retry(self) -> float:
        """The most seconds that all retries of one message may take."""
        return self.retry.longest()

    @property
    def code(self) -> CodeType | None:
        """The code of the function itself, under its decorators; None if it has none."""
        function = inspect.unwrap(self.function)
        code = getattr(function, "__code__", None) or getattr(
            getattr(type(function), "__call__", None),  # noqa: B004 - it is not called
            "__code__",
            None,
        )
        return code if isinstance(code, CodeType) else None

    def topology(self) -> Topology:
        """Return what must exist on the broker for this handler."""
        return Topology.of_queue(self.queue, self.sources)
