"""mqkit's values as the bytes that the aio-pika driver writes, and what aiormq read as mqkit's.

What is written is encoded by pika's codec, so that both drivers write the same bytes. pamqp, which
aiormq writes with, would change values (4.0.1): it writes floats in single precision, cuts header
names at 128 bytes, takes no bytes, and refuses names of queues and exchanges that RabbitMQ takes.
What is read was decoded by pamqp, and is brought to the types that pika decodes to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiormq
from aiormq.connection import EXCEPTION_MAPPING
from pamqp import commands
from pika import amqp_object, frame

from mqkit.drivers import frames, pika_wire, wire
from mqkit.drivers.base import Closed, Incoming, Returned
from mqkit.message import HeaderValue, Message, Properties

_CODES = {error: code for code, error in EXCEPTION_MAPPING.items()}


def method(channel: int, call: amqp_object.Method) -> bytes:
    """A method frame."""
    return bytes(frame.Method(channel, call).marshal())


def publish(
    channel: int,
    message: Message,
    frame_max: int,
    extra_headers: Mapping[str, HeaderValue] | None = None,
) -> bytes:
    """The frames of a publish.

    :raises InvalidMessageError: a header or property cannot be encoded, or all of them together
        do not fit into one frame, as they must (AMQP 0-9-1, section 4.2.6.1)
    """
    headers = {**message.properties.headers, **(extra_headers or {})}
    limit = frame_max - wire.FRAME_OVERHEAD if frame_max else _NO_LIMIT
    try:
        return b"".join(frames.publish(channel, message, headers, limit))
    except frames.HeaderTooLargeError as error:
        raise wire.too_large(message, *error.args) from error
    except pika_wire.ENCODING_ERRORS as error:
        raise wire.unencodable(message, error) from error


_NO_LIMIT = 2**32 - 1
"""Bytes that a frame can have (AMQP 0-9-1, section 4.2.3)."""


def incoming(
    call: commands.Basic.Deliver | commands.Basic.GetOk,
    properties: commands.Basic.Properties,
    body: bytes,
) -> Incoming:
    """A `basic.deliver` or `basic.get-ok` as received."""
    return Incoming(
        call.delivery_tag or 0,
        bool(call.redelivered),
        call.exchange or "",
        call.routing_key or "",
        from_pamqp(properties),
        body,
    )


def returned(call: commands.Basic.Return, properties: commands.Basic.Properties) -> Returned:
    """A `basic.return` as received."""
    return Returned(
        call.reply_code or 0,
        call.reply_text or "",
        call.exchange or "",
        call.routing_key or "",
        from_pamqp(properties),
    )


def from_pamqp(properties: commands.Basic.Properties) -> Properties:
    """Properties as received. What another client wrote as nonsense is left out, not raised."""
    return Properties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=_plain(properties.headers) if properties.headers else {},
        persistent=properties.delivery_mode == wire.PERSISTENT,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=wire.seconds(properties.expiration),
        message_id=properties.message_id,
        timestamp=properties.timestamp,
        type=properties.message_type,
        user_id=properties.user_id,
        app_id=properties.app_id,
    )


def _plain(value: Any) -> Any:
    """A header value as pika decodes it: bytes, where pamqp makes a bytearray of them."""
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def closed(reason: BaseException | None) -> Closed:
    """Why a connection closed, from what aiormq says of it."""
    if reason is None or isinstance(reason, asyncio.CancelledError):
        return Closed(0, wire.BY_US)
    if isinstance(reason, aiormq.exceptions.ConnectionClosed):
        code = _CODES.get(type(reason))
        if code is None:
            first = reason.args[0] if reason.args else 0
            code = first if isinstance(first, int) else 0
        text = str(reason.args[-1]) if reason.args else wire.BY_US
        return Closed(0 if code in (0, 200) else code, text)
    if isinstance(reason.__cause__, asyncio.IncompleteReadError):
        return Closed(0, "the broker ended the stream without a word")
    text = wire.root_text(reason.__cause__ or reason)
    if isinstance(reason, aiormq.exceptions.ProtocolSyntaxError):
        return Closed(0, f"aiormq cannot read what the broker sent: {text}")
    return Closed(0, text)
