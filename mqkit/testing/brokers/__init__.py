"""Brokers to test on: the embedded one, and RabbitMQ, found and started."""

from typing import TYPE_CHECKING

from mqkit.testing.lazy_names import lazy_names

if TYPE_CHECKING:
    from mqkit.testing.brokers.broker import Broker, BrokerControlError, BrokerStartError
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
    "BrokerStartError",
    "EmbeddedBroker",
    "find_brokers",
    "start",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Broker": "broker",
        "BrokerControlError": "broker",
        "BrokerNotFoundError": "finder",
        "BrokerSpec": "finder",
        "BrokerStartError": "broker",
        "EMBEDDED": "finder",
        "EmbeddedBroker": "embedded",
        "find_brokers": "finder",
        "start": "finder",
    },
)
