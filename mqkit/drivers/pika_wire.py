"""mqkit's values in pika's types and back; shared by the pika driver and the blocking publisher."""

from __future__ import annotations

import struct
from typing import Any

import pika
from pika import exceptions

from mqkit.drivers import wire
from mqkit.drivers.base import Closed, Incoming
from mqkit.errors import ConnectError
from mqkit.message import Properties
from mqkit.settings import BrokerUrl, Host

ENCODING_ERRORS = (
    exceptions.UnsupportedAMQPFieldException,
    exceptions.ShortStringTooLong,
    struct.error,
    UnicodeError,
    OverflowError,
    TypeError,
    ValueError,
    AssertionError,
    RecursionError,
    AttributeError,
)
"""What pika and `mqkit.drivers.frames` raise for what they cannot encode; none of it is written."""


def quiet_pika() -> None:
    """Keep pika's own log to what is critical, unless the application chose a level for it."""
    wire.quiet("pika")


def parameters(url: BrokerUrl, host: Host, name: str) -> pika.ConnectionParameters:
    """The parameters for one attempt on one host."""
    return pika.ConnectionParameters(
        host=host.name,
        port=host.port,
        virtual_host=url.vhost,
        credentials=pika.PlainCredentials(
            url.username, url.password.get_secret_value(), erase_on_connect=True
        ),
        heartbeat=url.heartbeat,
        socket_timeout=url.connect_timeout,
        stack_timeout=url.connect_timeout,
        connection_attempts=1,
        ssl_options=(
            pika.SSLOptions(wire.tls_context(url.tls), url.tls.server_name or host.name)
            if url.tls
            else None
        ),
        client_properties={"connection_name": name, "product": "mqkit"},
    )


def to_pika(properties: Properties) -> pika.BasicProperties:
    """Properties to be written."""
    return pika.BasicProperties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=dict(properties.headers) or None,
        delivery_mode=wire.PERSISTENT if properties.persistent else wire.TRANSIENT,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=(
            None if properties.expiration is None else str(round(properties.expiration * 1000))
        ),
        message_id=properties.message_id,
        timestamp=(None if properties.timestamp is None else int(properties.timestamp.timestamp())),
        type=properties.type,
        user_id=properties.user_id,
        app_id=properties.app_id,
    )


def from_pika(properties: pika.BasicProperties) -> Properties:
    """Properties as received. What another client wrote as nonsense is left out, not raised."""
    return Properties(
        content_type=_text(properties.content_type),
        content_encoding=_text(properties.content_encoding),
        headers=properties.headers or {},
        persistent=properties.delivery_mode == wire.PERSISTENT,
        priority=properties.priority,
        correlation_id=_text(properties.correlation_id),
        reply_to=_text(properties.reply_to),
        expiration=wire.seconds(_text(properties.expiration)),
        message_id=_text(properties.message_id),
        timestamp=wire.moment(properties.timestamp),
        type=_text(properties.type),
        user_id=_text(properties.user_id),
        app_id=_text(properties.app_id),
    )


def _text(value: str | bytes | None) -> str | None:
    """A short string as received; pika hands over the bytes of one that is no UTF-8."""
    return None if isinstance(value, bytes) else value


def incoming(method: Any, properties: pika.BasicProperties, body: bytes) -> Incoming:
    """A `basic.deliver` or `basic.get-ok` as received."""
    return Incoming(
        method.delivery_tag,
        method.redelivered,
        method.exchange,
        method.routing_key,
        from_pika(properties),
        body,
    )


def closed(reason: BaseException) -> Closed:
    """Why a connection or channel closed, from the exception that pika hands over."""
    if isinstance(reason, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        by_us = isinstance(
            reason, exceptions.ConnectionClosedByClient | exceptions.ChannelClosedByClient
        )
        return Closed(0 if by_us else reason.reply_code, str(reason.reply_text))
    if isinstance(reason, exceptions.AMQPHeartbeatTimeout):
        return Closed(0, wire.SILENT)
    return Closed(0, wire.root_text(reason))


def connect_error(error: BaseException, host: Host, vhost: str) -> ConnectError:
    """The error for a connection that could not be opened."""
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return wire.login_refused(host)
    if isinstance(error, exceptions.ProbableAccessDeniedError) and "(530)" in wire.root_text(error):
        return wire.vhost_refused(host, vhost)
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return wire.not_amqp(host)
    return wire.no_connection(host, error)
