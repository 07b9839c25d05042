"""mqkit: message handlers on RabbitMQ that lose nothing and apply nothing twice."""

from mqkit.blocking import BlockingPublisher
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
    TopologyError,
    UnroutableError,
)
from mqkit.message import Delivery
from mqkit.middleware import CallNext, HandlerCall, Middleware
from mqkit.outcome import Reject, RetryLater
from mqkit.outgoing import Outgoing
from mqkit.publisher import Publisher, PublishResult
from mqkit.retry import Retry
from mqkit.runtime import Runtime
from mqkit.service import Service
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
    "Middleware",
    "MqkitError",
    "NackedError",
    "Outgoing",
    "PublishError",
    "PublishRefusedError",
    "PublishResult",
    "PublishTimeoutError",
    "Publisher",
    "Queue",
    "Reject",
    "Retry",
    "RetryLater",
    "Runtime",
    "Service",
    "TopologyError",
    "UnroutableError",
    "__version__",
]
