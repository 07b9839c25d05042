"""Functions around every run of a handler, each taking the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mqkit.message import Delivery


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """One run of a handler, as a middleware sees it."""

    service: str
    handler: str
    delivery: Delivery
    body: Any
    """The decoded and validated body; None for a handler that takes none. Of a batch, a list."""
    deliveries: tuple[Delivery, ...] = ()
    """All of a batch, of which `delivery` is the first."""


CallNext = Callable[[HandlerCall], Awaitable[Any]]

Middleware = Callable[[HandlerCall, CallNext], Awaitable[Any]]
"""`async def middleware(call, call_next)`: await `call_next(call)` to go on.

What it raises decides the outcome as if the handler had raised it; what it returns, returns
to the middleware outside it, and of the outermost one it counts as what the handler returned: the
reply to a request, the results of a batch. One that does not go on and returns None has the
message, or the whole batch, acknowledged unhandled.
"""


def compose(middleware: Iterable[Middleware], innermost: CallNext) -> CallNext:
    """One function that runs the first middleware outermost and `innermost` last."""
    chain = innermost
    for layer in reversed(list(middleware)):
        chain = _wrap(layer, chain)
    return chain


def _wrap(layer: Middleware, call_next: CallNext) -> CallNext:
    async def run(call: HandlerCall) -> Any:
        return await layer(call, call_next)

    return run
