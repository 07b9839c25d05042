"""AMQP 0-9-1 on a bare socket, for messages that no client library would write, and their reading.

It checks nothing that it writes: a property is the bytes that it is given.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from mqkit.settings import BrokerUrl

PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
"""In the order of their flags, from the highest bit on (AMQP 0-9-1, section 1.8)."""

_SIZES = {"delivery_mode": 1, "priority": 1, "timestamp": 8}

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"

START, START_OK, TUNE, TUNE_OK = (10, 10), (10, 11), (10, 30), (10, 31)
OPEN, OPEN_OK, CLOSE, CLOSE_OK = (10, 40), (10, 41), (10, 50), (10, 51)
CHANNEL_OPEN, CHANNEL_OPEN_OK, CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
DECLARE, DECLARE_OK = (50, 10), (50, 11)
CONSUME, CONSUME_OK = (60, 20), (60, 21)
PUBLISH, RETURN, DELIVER, ACK, NACK = (60, 40), (60, 50), (60, 60), (60, 80), (60, 120)
SELECT, SELECT_OK = (85, 10), (85, 11)

WINDOW = 200
"""Messages that are written ahead of their confirms."""

TIMEOUT = 30.0
"""Seconds that the broker may take to say anything."""


class RefusedError(Exception):
    """The broker closed the channel or the connection, or returned a message."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it is on the wire: each property as its bytes, without their length."""

    routing_key: bytes
    body: bytes
    properties: Mapping[str, bytes] = field(default_factory=dict)
    exchange: bytes = b""


def short(data: bytes) -> bytes:
    """A short string."""
    return bytes([len(data)]) + data


def long(data: bytes) -> bytes:
    """A long string, or a table of these entries."""
    return struct.pack(">I", len(data)) + data


def encoded(properties: Mapping[str, bytes]) -> bytes:
    """The flags and the properties of a content header."""
    flags, parts = 0, b""
    for place, name in enumerate(PROPERTIES):
        if (value := properties.get(name)) is None:
            continue
        flags |= 1 << (15 - place)
        if name == "headers":
            parts += long(value)
        else:
            parts += value if name in _SIZES else short(value)
    return struct.pack(">H", flags) + parts


def decoded(data: bytes) -> dict[str, bytes]:
    """The properties of a content header, each as its bytes."""
    (flags,) = struct.unpack_from(">H", data)
    offset, found = 2, {}
    for place, name in enumerate(PROPERTIES):
        if not flags & (1 << (15 - place)):
            continue
        if name == "headers":
            (size,), skip = struct.unpack_from(">I", data, offset), 4
        elif name in _SIZES:
            size, skip = _SIZES[name], 0
        else:
            size, skip = data[offset], 1
        found[name] = data[offset + skip : offset + skip + size]
        offset += skip + size
    return found


class Peer:
    """A connection with one channel, in confirm mode; it blocks."""

    def __init__(self, url: str) -> None:
        """Connect.

        :raises RefusedError: the broker refused
        """
        broker = BrokerUrl.parse(url)
        host = broker.hosts[0]
        self._socket = socket.create_connection((host.name, host.port), timeout=TIMEOUT)
        self._in = self._socket.makefile("rb")
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.is_rabbitmq = b"RabbitMQ" in self._expect(START)
        response = f"\0{broker.username}\0{broker.password.get_secret_value()}".encode()
        self._method(0, START_OK, long(b"") + short(b"PLAIN") + long(response) + short(b"en_US"))
        tune = self._expect(TUNE)
        _, self._frame_max, _ = struct.unpack(">HIH", tune)
        self._method(0, TUNE_OK, struct.pack(">HIH", 1, self._frame_max, 0))
        self._method(0, OPEN, short(broker.vhost.encode()) + b"\0\0")
        self._expect(OPEN_OK)
        self._method(1, CHANNEL_OPEN, b"\0")
        self._expect(CHANNEL_OPEN_OK)
        self._method(1, SELECT, b"\0")
        self._expect(SELECT_OK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; no error if the broker has closed it."""
        try:
            if self._socket.fileno() != -1:
                self._method(0, CLOSE, struct.pack(">H", 200) + b"\0" + b"\0\0\0\0")
                while self._frame()[:2] != (METHOD, struct.pack(">HH", *CLOSE_OK)):
                    pass
        except (OSError, RefusedError):
            pass
        finally:
            self._in.close()
            self._socket.close()

    def publish(self, messages: Sequence[Raw]) -> None:
        """Publish all, and return once all are confirmed.

        :raises RefusedError: the broker refused one, or has no such queue
        """
        open_, confirmed = set[int](), 0
        for number, message in enumerate(messages, 1):
            self._write(message)
            open_.add(number)
            while len(open_) >= WINDOW:
                confirmed += self._confirmed(open_)
        while open_:
            confirmed += self._confirmed(open_)

    def messages(self, queue: str) -> int:
        """How many messages of a queue are ready."""
        self._method(1, DECLARE, b"\0\0" + short(queue.encode()) + b"\x01" + long(b""))
        answer = self._expect(DECLARE_OK)
        count, _ = struct.unpack(">II", answer[1 + answer[0] :])
        return int(count)

    def take(self, queue: str) -> Iterator[Raw]:
        """Take all that are in a queue, which then are in it no more."""
        count = self.messages(queue)
        if not count:
            return
        no_ack = b"\x02"
        self._method(1, CONSUME, b"\0\0" + short(queue.encode()) + b"\0" + no_ack + long(b""))
        self._expect(CONSUME_OK)
        for _ in range(count):
            payload = self._expect(DELIVER)
            offset = 1 + payload[0] + 8 + 1
            offset += 1 + payload[offset]
            key = payload[offset + 1 : offset + 1 + payload[offset]]
            yield self._content(key)

    def _content(self, routing_key: bytes) -> Raw:
        _, header = self._frame()
        (size,) = struct.unpack_from(">Q", header, 4)
        properties, body = decoded(header[12:]), b""
        while len(body) < size:
            body += self._frame()[1]
        return Raw(routing_key, body, properties)

    def _write(self, message: Raw) -> None:
        mandatory = b"\x01"
        method = struct.pack(">HH", *PUBLISH) + b"\0\0" + short(message.exchange)
        method += short(message.routing_key)
        frames = [(METHOD, method + mandatory)]
        header = struct.pack(">HHQ", 60, 0, len(message.body)) + encoded(message.properties)
        frames.append((HEADER, header))
        step = self._frame_max - 8
        frames += [
            (BODY, message.body[start : start + step])
            for start in range(0, len(message.body), step)
        ]
        written = (struct.pack(">BHI", kind, 1, len(data)) + data + END for kind, data in frames)
        self._socket.sendall(b"".join(written))

    def _confirmed(self, waiting: set[int]) -> int:
        """Read one confirm."""
        tag, multiple = struct.unpack(">QB", self._expect(ACK))
        done = {number for number in waiting if number <= tag} if multiple & 1 else {tag}
        waiting -= done
        return len(done)

    def _method(self, channel: int, method: tuple[int, int], arguments: bytes) -> None:
        data = struct.pack(">HH", *method) + arguments
        self._socket.sendall(struct.pack(">BHI", METHOD, channel, len(data)) + data + END)

    def _expect(self, method: tuple[int, int]) -> bytes:
        """The arguments of the next method, which is this one."""
        kind, payload = self._frame()
        while kind == 8:  # a heartbeat
            kind, payload = self._frame()
        found = struct.unpack_from(">HH", payload)
        if kind == METHOD and found == method:
            return payload[4:]
        if found in (CLOSE, CHANNEL_CLOSE, RETURN):
            code, size = struct.unpack_from(">HB", payload, 4)
            raise RefusedError(f"{code} {payload[7 : 7 + size].decode(errors='replace')}")
        raise RefusedError(f"the broker said {found}, and not {method}")

    def _frame(self) -> tuple[int, bytes]:
        start = self._in.read(7)
        if len(start) < 7:
            raise RefusedError("the broker has closed the stream")
        kind, _, size = struct.unpack(">BHI", start)
        payload = self._in.read(size)
        self._in.read(1)
        return kind, payload
