"""A client without a socket: frames to a connection's bytes, and its bytes to frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pamqp import base, body, commands, frame, header
from pamqp.heartbeat import Heartbeat

from mqkit.embedded.engine.node import Node
from mqkit.embedded.session.connection import Connection

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

Frame = base.Frame | header.ContentHeader | body.ContentBody | Heartbeat

F = TypeVar("F")


def marshal(value: Frame, channel: int = 0) -> bytes:
    """One frame's bytes."""
    return frame.marshal(value, channel)


def publish(
    exchange: str, key: str, payload: bytes = b"m", *, channel: int = 1, **properties: Any
) -> bytes:
    """A message's frames."""
    head = header.ContentHeader(0, len(payload), commands.Basic.Properties(**properties))
    parts = [marshal(commands.Basic.Publish(0, exchange, key), channel), marshal(head, channel)]
    if payload:
        parts.append(marshal(body.ContentBody(payload), channel))
    return b"".join(parts)


class Client:
    """One connection; what the broker sent is in `received`."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connection = Connection(node)
        self.received: list[tuple[int, Any]] = []

    def send_bytes(self, data: bytes) -> None:
        """Send bytes, and take what comes back."""
        self.connection.receive(data)
        self.collect()

    def send(self, *values: Frame, channel: int = 1) -> None:
        """Send frames."""
        self.send_bytes(b"".join(marshal(value, channel) for value in values))

    def call(self, value: Frame, answer: type[F], channel: int = 1) -> F:
        """Send a method; its answer is the last frame that came."""
        self.send(value, channel=channel)
        assert self.received, "no answer"
        assert isinstance(self.received[-1][1], answer), self.received[-1]
        return self.received[-1][1]

    def collect(self) -> None:
        """Take what the broker has to send, also without being asked."""
        data = self.connection.output()
        while data:
            size, channel, value = frame.unmarshal(data)
            self.received.append((channel, value))
            data = data[size:]

    def of(self, kind: type[F]) -> list[F]:
        """What of a kind has been received."""
        self.collect()
        return [value for _, value in self.received if isinstance(value, kind)]

    def last(self) -> Any:
        """What was received last."""
        self.collect()
        return self.received[-1][1]

    def start(self, capabilities: Sequence[str] = ()) -> None:
        """Go as far as the log-in."""
        self.send_bytes(PROTOCOL_HEADER)
        self.send(
            commands.Connection.StartOk(
                {"capabilities": dict.fromkeys(capabilities, True)}, "PLAIN", "\0guest\0guest"
            ),
            channel=0,
        )

    def open(
        self, capabilities: Sequence[str] = ("consumer_cancel_notify", "connection.blocked")
    ) -> None:
        """Open the connection and channel 1."""
        self.start(capabilities)
        self.send(
            commands.Connection.TuneOk(2047, 131072, 0), commands.Connection.Open(), channel=0
        )
        assert isinstance(self.last(), commands.Connection.OpenOk)
        self.call(commands.Channel.Open(), commands.Channel.OpenOk)

    def declare(self, queue: str = "q", **options: Any) -> None:
        """Declare a queue."""
        self.call(commands.Queue.Declare(0, queue, **options), commands.Queue.DeclareOk)

    def depth(self, queue: str = "q") -> int:
        """Its ready messages."""
        ok = self.call(commands.Queue.Declare(0, queue, passive=True), commands.Queue.DeclareOk)
        return int(ok.message_count or 0)


def opened(node: Node) -> Client:
    """A client with its connection and channel 1 open."""
    client = Client(node)
    client.open()
    return client
