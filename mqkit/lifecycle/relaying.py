"""Publishes what a store's relay publishes, with a span for each message where there is tracing."""

from __future__ import annotations

from mqkit.hooks.tracing import MessageTracing
from mqkit.message import Message
from mqkit.registration.transactions import SendWithin
from mqkit.topology import Exchange


def traced_send(send: SendWithin, tracing: MessageTracing | None) -> SendWithin:
    """Return what a relay publishes by: `send` itself, unless it is to be traced.

    The spans belong to the traces of their messages, and not to what started the service.
    """
    if tracing is None:
        return send

    async def traced(
        message: Message,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - for `send`, which keeps it
        declare: Exchange | None = None,
    ) -> None:
        with tracing.publishing(message, ambient=False):
            await send(message, timeout=timeout, declare=declare)

    return traced
