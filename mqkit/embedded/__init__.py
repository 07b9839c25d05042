"""An AMQP 0-9-1 broker in Python, for development and tests where there is no RabbitMQ.

It speaks the wire protocol, so any client connects to it, and it does what RabbitMQ does as far
as it does it; the rest it refuses by name. It imports nothing else of mqkit. A message's way:
`server` (sockets) -> `connection` (handshake, frames) -> `channel` (content, acks) -> `basics`
and `declarations` (what the methods do) -> `vhost` (routing) -> `queue` (order, limits, death).
"""

from mqkit.embedded.engine.memory import limit_of
from mqkit.embedded.engine.node import PRODUCT, version
from mqkit.embedded.errors import DataError, EmbeddedBrokerError
from mqkit.embedded.server.server import ConnectionInfo, EmbeddedServer, MessageInfo, QueueInfo
from mqkit.embedded.server.thread import ServerThread

__all__ = [
    "PRODUCT",
    "ConnectionInfo",
    "DataError",
    "EmbeddedBrokerError",
    "EmbeddedServer",
    "MessageInfo",
    "QueueInfo",
    "ServerThread",
    "limit_of",
    "version",
]
