"""An AMQP 0-9-1 broker in Python, for development and tests where there is no RabbitMQ.

It speaks the wire protocol, so any client connects to it, and it does what RabbitMQ does as far
as it does it; the rest it refuses by name. It imports nothing else of mqkit. A message goes:

    server/peer          reads bytes from the publisher's socket
    session/connection   has `wire/` cut them into frames, and finds the channel of each
    session/channel      puts the frames of one message together (`content`)
    session/basic        checks `basic.publish` and asks where the message goes
    engine/vhost         has `engine/routing` find the queues by exchanges and bindings
    engine/queue         keeps it in order, within limits, until a consumer's turn (`consumers`);
                         it expires or is dead-lettered there, too (`dead_letters`)
    session/channel      numbers the delivery and writes it as frames
    server/peer          writes the bytes to the consumer's socket

What is durable is written down on the way (`engine/durable`), and `engine/node` has confirms sent
once it is on disk. A package imports from those before it only: `errors`, `wire`, `engine`,
`session`, `server`; the engine sees a connection and a channel as Protocols of its own (`Client`,
`Receiver`).
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
