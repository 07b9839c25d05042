"""Readings of a service as the tests say that it is."""

from __future__ import annotations

from typing import Any

from mqkit.middleware import ConnectionReading, ConsumerReading, ServiceReading
from mqkit.pause import ConsumerState, Status


def consumer(status: Status = Status.CONSUMING, because: str = "", **said: Any) -> ConsumerReading:
    """One of the handler `post`, of queue `q`."""
    known: dict[str, Any] = {
        "handler": "post",
        "queue": "q",
        "consumed": "q",
        "in_flight": 0,
        "pauses": 0,
        "settled_ago": None,
    }
    return ConsumerReading(state=ConsumerState(status, because=because), **(known | said))


def reading(*consumers: ConsumerReading, **said: Any) -> ServiceReading:
    """A service `ledger` that runs well."""
    known: dict[str, Any] = {
        "is_started": True,
        "is_stopping": False,
        "connections": (
            ConnectionReading("consume", is_up=True, opened=1, blocked_seconds=0.0),
            ConnectionReading("publish", is_up=True, opened=3, blocked_seconds=1.5),
        ),
        "consumers": consumers or (consumer(),),
    }
    return ServiceReading("ledger", **(known | said))
