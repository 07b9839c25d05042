"""Brokers to test on: the embedded one, and RabbitMQ, found and started."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.testing.brokers.broker import Broker, BrokerControlError
    from mqkit.testing.brokers.embedded import EmbeddedBroker
    from mqkit.testing.brokers.finder import (
        EMBEDDED,
        BrokerNotFoundError,
        BrokerSpec,
        find_brokers,
        start,
    )

__all__ = [
    "EMBEDDED",
    "Broker",
    "BrokerControlError",
    "BrokerNotFoundError",
    "BrokerSpec",
    "EmbeddedBroker",
    "find_brokers",
    "start",
]

_HOMES = {
    "Broker": "mqkit.testing.brokers.broker",
    "BrokerControlError": "mqkit.testing.brokers.broker",
    "BrokerNotFoundError": "mqkit.testing.brokers.finder",
    "BrokerSpec": "mqkit.testing.brokers.finder",
    "EMBEDDED": "mqkit.testing.brokers.finder",
    "EmbeddedBroker": "mqkit.testing.brokers.embedded",
    "find_brokers": "mqkit.testing.brokers.finder",
    "start": "mqkit.testing.brokers.finder",
}
"""Where each name is. It is imported when it is first asked for, as in `mqkit` itself."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
