"""Encodes what the aio-pika driver writes, and hides from aiormq what it cannot read.

What is written is encoded by mqkit and pika, so that both drivers write the same bytes. pamqp,
which aiormq writes with, would change values (4.0.1): it writes floats in single precision, cuts
header names at 128 bytes, takes no bytes, and refuses names of queues and exchanges that RabbitMQ
takes.
Nor does it read all that RabbitMQ passes on: a name that is no UTF-8 ends the connection. So the
frames of messages pass it by, in the guise of body frames, whose payload it leaves alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiormq
from aiormq.connection import EXCEPTION_MAPPING
from pika import amqp_object, frame

from mqkit.drivers import common, frames
from mqkit.drivers.base import REPLY_SUCCESS, Closed
from mqkit.message import HeaderValue, Message
from mqkit.system.reasons import root_text

_CODES = {error: code for code, error in EXCEPTION_MAPPING.items()}


def method(channel: int, call: amqp_object.Method) -> bytes:
    """Encode a method frame."""
    return bytes(frame.Method(channel, call).marshal())


def publish(
    channel: int,
    message: Message,
    frame_max: int,
    extra_headers: Mapping[str, HeaderValue] | None = None,
) -> bytes:
    """Encode the frames of a publish.

    :raises InvalidMessageError: a header or property cannot be encoded, or all of them together
        do not fit into one frame, as they must (AMQP 0-9-1, section 4.2.6.1)
    """
    limit = frame_max - common.FRAME_OVERHEAD if frame_max else frames.NO_LIMIT
    return b"".join(frames.publish(channel, message, limit, extra_headers))


CHANNEL_CLOSE, CONNECTION_CLOSE = b"\0\x14\0\x28", b"\0\x0a\0\x32"

_CONTENT_METHODS = tuple(
    frames.METHOD_ID.pack(each) for each in (frames.DELIVER, frames.RETURN, frames.GET_OK)
)


def passed_by(kind: int, payload: bytes) -> tuple[int, bytes]:
    """Return a frame's type and payload as aiormq and pamqp are to see them.

    A content header, and a method that one follows, becomes a body frame: which it is, its place in
    the stream tells. Of a close's text only what is UTF-8 is left; nothing promises that all is.
    """
    if kind == frames.HEADER or (kind == frames.METHOD and payload[:4] in _CONTENT_METHODS):
        return frames.BODY, payload
    if kind == frames.METHOD and payload[:4] in (CHANNEL_CLOSE, CONNECTION_CLOSE):
        end = 7 + payload[6]
        text = payload[7:end].decode(errors="ignore").encode()
        return kind, payload[:6] + bytes((len(text),)) + text + payload[end:]
    return kind, payload


def closed(reason: BaseException | None) -> Closed:
    """Return why a connection closed, from the exception that aiormq ended it with."""
    if reason is None or isinstance(reason, asyncio.CancelledError):
        return Closed(0, common.BY_US)
    if isinstance(reason, aiormq.exceptions.ConnectionClosed):
        code = _CODES.get(type(reason))
        if code is None:
            first = reason.args[0] if reason.args else 0
            code = first if isinstance(first, int) else 0
        text = str(reason.args[-1]) if reason.args else common.BY_US
        return Closed(0 if code == REPLY_SUCCESS else code, text)
    if isinstance(reason.__cause__, asyncio.IncompleteReadError):
        return Closed(0, "the broker ended the stream without a word")
    text = root_text(reason.__cause__ or reason)
    if isinstance(reason, aiormq.exceptions.ProtocolSyntaxError):
        return Closed(0, f"aiormq cannot read what the broker sent: {text}")
    return Closed(0, text)
