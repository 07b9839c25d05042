"""The frames that come with every message, written and read by hand.

pamqp's codec goes through each method's fields by name; for publish, deliver and ack that was half
of what a message costs. Everything else goes through pamqp. What these give is what pamqp gives.
"""

from __future__ import annotations

import struct

from pamqp import commands, constants

PUBLISH = commands.Basic.Publish.index.to_bytes(4)
ACK = commands.Basic.Ack.index.to_bytes(4)

_DELIVER = commands.Basic.Deliver.index.to_bytes(4)

_FRAME = struct.Struct(">BHI")
"""Type, channel and length of the payload."""

_TAG = struct.Struct(">QB")
"""A delivery tag and an octet of bits."""

_END = bytes((constants.FRAME_END,))


def read_publish(payload: bytes) -> commands.Basic.Publish:
    """`basic.publish` from a method frame's payload.

    :raises ValueError: a name is no UTF-8
    :raises LookupError: it ends too early
    """
    method = commands.Basic.Publish.__new__(commands.Basic.Publish)
    at = 7 + payload[6]
    method.ticket = payload[4] << 8 | payload[5]
    method.exchange = payload[7:at].decode()
    end = at + 1 + payload[at]
    method.routing_key = payload[at + 1 : end].decode()
    bits = payload[end]
    method.mandatory, method.immediate = bool(bits & 1), bool(bits & 2)
    return method


def read_ack(payload: bytes) -> commands.Basic.Ack:
    """`basic.ack` from a method frame's payload.

    :raises struct.error: it ends too early
    """
    method = commands.Basic.Ack.__new__(commands.Basic.Ack)
    method.delivery_tag, bits = _TAG.unpack_from(payload, 4)
    method.multiple = bool(bits & 1)
    return method


READERS = {PUBLISH: read_publish, ACK: read_ack}
"""By the first four octets of the payload."""


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame of any type."""
    return b"".join((_FRAME.pack(kind, channel, len(payload)), payload, _END))


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """A frame with `basic.ack`."""
    return frame(constants.FRAME_METHOD, channel, ACK + _TAG.pack(tag, multiple))


def deliver(
    channel: int,
    consumer_tag: str,
    tag: int,
    *,
    redelivered: bool,
    exchange: str,
    routing_key: str,
) -> bytes:
    """A frame with `basic.deliver`; names may be all of UTF-8, as RabbitMQ's may."""
    parts = (
        _DELIVER,
        _short(consumer_tag),
        _TAG.pack(tag, redelivered),
        _short(exchange),
        _short(routing_key),
    )
    return frame(constants.FRAME_METHOD, channel, b"".join(parts))


def _short(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(1) + data
