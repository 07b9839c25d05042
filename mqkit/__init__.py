"""mqkit: message handlers on RabbitMQ that lose nothing, and with a store apply nothing twice."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.blocking.publisher import BlockingPublisher
    from mqkit.errors import (
        AuthenticationError,
        BatchResultError,
        BlockedError,
        BorrowedConnectionError,
        BrokerError,
        BrokerUrlError,
        ChannelClosedError,
        ConfigurationError,
        ConnectError,
        ConnectionLostError,
        DecodeError,
        ExchangeMismatchError,
        ExchangeNotFoundError,
        HandlerAbortedError,
        HandlerError,
        HandlerPausedError,
        HandlerResultError,
        HandlerTimeoutError,
        HeadersTooLargeError,
        InvalidMessageError,
        ManagementError,
        MessageExpiredError,
        MessageIdError,
        MessageIdReusedError,
        MissingExtraError,
        MqkitError,
        NackedError,
        OptionError,
        OrderError,
        PolicyError,
        ProbeTimeoutError,
        PublisherClosedError,
        PublishError,
        PublishRefusedError,
        PublishTimeoutError,
        ReplyLostError,
        RequestError,
        RequestFailedError,
        RequestRejectedError,
        RequestTimeoutError,
        RowError,
        ServiceNotFoundError,
        StatementError,
        StoreConflictError,
        StoreError,
        StoreUnavailableError,
        TopologyError,
        UncountedError,
        UnroutableError,
        VirtualHostError,
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
    "AuthenticationError",
    "BatchResultError",
    "BlockedError",
    "BlockingPublisher",
    "BorrowedConnectionError",
    "BrokerError",
    "BrokerUrl",
    "BrokerUrlError",
    "CallNext",
    "ChannelClosedError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "DecodeError",
    "Delivery",
    "Exchange",
    "ExchangeMismatchError",
    "ExchangeNotFoundError",
    "HandlerAbortedError",
    "HandlerCall",
    "HandlerError",
    "HandlerPausedError",
    "HandlerResultError",
    "HandlerTimeoutError",
    "HeadersTooLargeError",
    "InvalidMessageError",
    "Limits",
    "ManagementError",
    "MessageExpiredError",
    "MessageIdError",
    "MessageIdReusedError",
    "Middleware",
    "MissingExtraError",
    "MqkitError",
    "NackedError",
    "Observer",
    "OptionError",
    "OrderError",
    "Outgoing",
    "Pause",
    "PolicyError",
    "ProbeTimeoutError",
    "PublishError",
    "PublishRefusedError",
    "PublishResult",
    "PublishTimeoutError",
    "Publisher",
    "PublisherClosedError",
    "Queue",
    "Reject",
    "ReplyLostError",
    "RequestError",
    "RequestFailedError",
    "RequestRejectedError",
    "RequestTimeoutError",
    "Retry",
    "RetryLater",
    "RowError",
    "Runtime",
    "Service",
    "ServiceNotFoundError",
    "StatementError",
    "StoreConflictError",
    "StoreError",
    "StoreUnavailableError",
    "TopologyError",
    "UncountedError",
    "UnroutableError",
    "VirtualHostError",
    "__version__",
]

_HOMES = {
    "AuthenticationError": "mqkit.errors",
    "BatchResultError": "mqkit.errors",
    "BlockedError": "mqkit.errors",
    "BlockingPublisher": "mqkit.blocking.publisher",
    "BorrowedConnectionError": "mqkit.errors",
    "BrokerError": "mqkit.errors",
    "BrokerUrl": "mqkit.settings",
    "BrokerUrlError": "mqkit.errors",
    "CallNext": "mqkit.middleware",
    "ChannelClosedError": "mqkit.errors",
    "ConfigurationError": "mqkit.errors",
    "ConnectError": "mqkit.errors",
    "ConnectionLostError": "mqkit.errors",
    "DecodeError": "mqkit.errors",
    "Delivery": "mqkit.message",
    "Exchange": "mqkit.topology",
    "ExchangeMismatchError": "mqkit.errors",
    "ExchangeNotFoundError": "mqkit.errors",
    "HandlerAbortedError": "mqkit.errors",
    "HandlerCall": "mqkit.middleware",
    "HandlerError": "mqkit.errors",
    "HandlerPausedError": "mqkit.errors",
    "HandlerResultError": "mqkit.errors",
    "HandlerTimeoutError": "mqkit.errors",
    "HeadersTooLargeError": "mqkit.errors",
    "InvalidMessageError": "mqkit.errors",
    "Limits": "mqkit.limits",
    "ManagementError": "mqkit.errors",
    "MessageExpiredError": "mqkit.errors",
    "MessageIdError": "mqkit.errors",
    "MessageIdReusedError": "mqkit.errors",
    "Middleware": "mqkit.middleware",
    "MissingExtraError": "mqkit.errors",
    "MqkitError": "mqkit.errors",
    "NackedError": "mqkit.errors",
    "Observer": "mqkit.middleware",
    "OptionError": "mqkit.errors",
    "OrderError": "mqkit.errors",
    "Outgoing": "mqkit.publishing.outgoing",
    "Pause": "mqkit.pause",
    "PolicyError": "mqkit.errors",
    "ProbeTimeoutError": "mqkit.errors",
    "PublishError": "mqkit.errors",
    "PublishRefusedError": "mqkit.errors",
    "PublishResult": "mqkit.publishing.pipeline",
    "PublishTimeoutError": "mqkit.errors",
    "Publisher": "mqkit.publishing.publisher",
    "PublisherClosedError": "mqkit.errors",
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
    "ServiceNotFoundError": "mqkit.errors",
    "RowError": "mqkit.errors",
    "StatementError": "mqkit.errors",
    "StoreConflictError": "mqkit.errors",
    "StoreError": "mqkit.errors",
    "StoreUnavailableError": "mqkit.errors",
    "TopologyError": "mqkit.errors",
    "UncountedError": "mqkit.errors",
    "UnroutableError": "mqkit.errors",
    "VirtualHostError": "mqkit.errors",
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
