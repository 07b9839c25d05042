"""Functions around a handler."""

from __future__ import annotations

from typing import Any

from mqkit import CallNext, Delivery, HandlerCall
from mqkit.middleware import compose


async def test_the_first_is_outermost() -> None:
    """Each runs around the next, and results come back through all of them."""

    def layer(label: str) -> Any:
        async def middleware(call: HandlerCall, call_next: CallNext) -> Any:
            return [label, *await call_next(call), label]

        return middleware

    async def handler(call: HandlerCall) -> Any:
        return [call.body]

    run = compose([layer("a"), layer("b")], handler)
    assert await run(HandlerCall("s", "h", Delivery(), "x")) == ["a", "b", "x", "b", "a"]
