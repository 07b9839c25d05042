"""mqkit: message handlers on RabbitMQ that lose nothing, and with a store apply nothing twice."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.blocking.publisher import BlockingPublisher
    from mqkit.errors import (
        BlockedError,
        BrokerError,
        BrokerUrlError,
        ConfigurationError,
        ConnectError,
        ConnectionLostError,
        DecodeError,
        ExchangeNotFoundError,
        HandlerError,
        InvalidMessageError,
        MqkitError,
        NackedError,
        PublishError,
        PublishRefusedError,
        PublishTimeoutError,
        ReplyLostError,
        RequestError,
        RequestFailedError,
        RequestRejectedError,
        RequestTimeoutError,
        TopologyError,
        UnroutableError,
    )
    from mqkit.limits import Limits
    from mqkit.message import Delivery
    from mqkit.middleware import CallNext, HandlerCall, Middleware, Observer
    from mqkit.outcome import Reject, RetryLater
    from mqkit.pause import Pause
    from mqkit.publishing.outgoing import Outgoing
    from mqkit.publishing.pipeline import PublishResult
    from mqkit.publishing.publisher import Publisher
    from mqkit.registration.service import Service
    from mqkit.retry import Retry
    from mqkit.runtime import Runtime
    from mqkit.settings import BrokerUrl
    from mqkit.topology import Exchange, Queue

__version__ = "0.1.0"

__all__ = [
    "BlockedError",
    "BlockingPublisher",
    "BrokerError",
    "BrokerUrl",
    "BrokerUrlError",
    "CallNext",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "DecodeError",
    "Delivery",
    "Exchange",
    "ExchangeNotFoundError",
    "HandlerCall",
    "HandlerError",
    "InvalidMessageError",
    "Limits",
    "Middleware",
    "MqkitError",
    "NackedError",
    "Observer",
    "Outgoing",
    "Pause",
    "PublishError",
    "PublishRefusedError",
    "PublishResult",
    "PublishTimeoutError",
    "Publisher",
    "Queue",
    "Reject",
    "ReplyLostError",
    "RequestError",
    "RequestFailedError",
    "RequestRejectedError",
    "RequestTimeoutError",
    "Retry",
    "RetryLater",
    "Runtime",
    "Service",
    "TopologyError",
    "UnroutableError",
    "__version__",
]

_HOMES = {
    "BlockedError": "mqkit.errors",
    "BlockingPublisher": "mqkit.blocking.publisher",
    "BrokerError": "mqkit.errors",
    "BrokerUrl": "mqkit.settings",
    "BrokerUrlError": "mqkit.errors",
    "CallNext": "mqkit.middleware",
    "ConfigurationError": "mqkit.errors",
    "ConnectError": "mqkit.errors",
    "ConnectionLostError": "mqkit.errors",
    "DecodeError": "mqkit.errors",
    "Delivery": "mqkit.message",
    "Exchange": "mqkit.topology",
    "ExchangeNotFoundError": "mqkit.errors",
    "HandlerCall": "mqkit.middleware",
    "HandlerError": "mqkit.errors",
    "InvalidMessageError": "mqkit.errors",
    "Limits": "mqkit.limits",
    "Middleware": "mqkit.middleware",
    "MqkitError": "mqkit.errors",
    "NackedError": "mqkit.errors",
    "Observer": "mqkit.middleware",
    "Outgoing": "mqkit.publishing.outgoing",
    "Pause": "mqkit.pause",
    "PublishError": "mqkit.errors",
    "PublishRefusedError": "mqkit.errors",
    "PublishResult": "mqkit.publishing.pipeline",
    "PublishTimeoutError": "mqkit.errors",
    "Publisher": "mqkit.publishing.publisher",
    "Queue": "mqkit.topology",
    "Reject": "mqkit.outcome",
    "ReplyLostError": "mqkit.errors",
    "RequestError": "mqkit.errors",
    "RequestFailedError": "mqkit.errors",
    "RequestRejectedError": "mqkit.errors",
    "RequestTimeoutError": "mqkit.errors",
    "Retry": "mqkit.retry",
    "RetryLater": "mqkit.outcome",
    "Runtime": "mqkit.runtime",
    "Service": "mqkit.registration.service",
    "TopologyError": "mqkit.errors",
    "UnroutableError": "mqkit.errors",
}
"""Where each public name is. It is imported when it is first asked for: pytest imports this package
in every project that has it installed, for the plugin of `mqkit.testing`, used or not."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        missing = f"module {__name__!r} has no attribute {name!r}"
        # With both, Python says which name was probably meant.
        raise AttributeError(missing, name=name, obj=sys.modules[__name__])
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
