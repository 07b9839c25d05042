"""mqkit's values in pika's types and back; shared by the pika driver and the blocking publisher."""

from __future__ import annotations

import logging
import ssl
import struct
from datetime import UTC, datetime
from typing import Any

import pika
from pika import exceptions

from mqkit.drivers.base import Closed, Incoming
from mqkit.errors import (
    AuthenticationError,
    BrokerUrlError,
    ConnectError,
    InvalidMessageError,
    VirtualHostError,
)
from mqkit.message import Message, Properties
from mqkit.settings import BrokerUrl, Host, Tls

PERSISTENT = 2
TRANSIENT = 1

ENCODING_ERRORS = (
    exceptions.UnsupportedAMQPFieldException,
    exceptions.ShortStringTooLong,
    struct.error,
    UnicodeError,
    OverflowError,
    TypeError,
    ValueError,
    AssertionError,
)
"""What pika raises for a property that it cannot encode; it encodes before it writes."""


def quiet_pika() -> None:
    """Keep pika's own log to what is critical, unless the application chose a level for it.

    It logs the same failures that mqkit raises, and bodies of returned messages with them.
    """
    logger = logging.getLogger("pika")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


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
        ssl_options=_ssl_options(url.tls, host) if url.tls else None,
        client_properties={"connection_name": name, "product": "mqkit"},
    )


def _ssl_options(tls: Tls, host: Host) -> pika.SSLOptions:
    try:
        context = ssl.create_default_context(cafile=tls.cafile)
        if tls.certfile:
            context.load_cert_chain(tls.certfile, tls.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise BrokerUrlError(
            f"the TLS files of the broker URL cannot be used "
            f"(cafile={tls.cafile!r}, certfile={tls.certfile!r}, keyfile={tls.keyfile!r}): {error}"
        ) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return pika.SSLOptions(context, tls.server_name or host.name)


def to_pika(properties: Properties) -> pika.BasicProperties:
    """Properties to be written."""
    return pika.BasicProperties(
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=dict(properties.headers) or None,
        delivery_mode=PERSISTENT if properties.persistent else TRANSIENT,
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
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        headers=properties.headers or {},
        persistent=properties.delivery_mode == PERSISTENT,
        priority=properties.priority,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        expiration=_seconds(properties.expiration),
        message_id=properties.message_id,
        timestamp=_time(properties.timestamp),
        type=properties.type,
        user_id=properties.user_id,
        app_id=properties.app_id,
    )


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


def _seconds(milliseconds: str | None) -> float | None:
    if milliseconds is None or not milliseconds.isdecimal():
        return None
    return int(milliseconds) / 1000


def _time(timestamp: int | None) -> datetime | None:
    if timestamp is None:
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def unencodable(message: Message, error: BaseException) -> InvalidMessageError:
    """The error for a message that pika could not encode."""
    return InvalidMessageError(
        f"message {message.properties.message_id} to exchange {message.exchange!r}: a header or "
        f"property cannot be encoded ({type(error).__name__}); headers take text, bytes, numbers, "
        "booleans, Decimal, datetime, None, and lists and dicts of those; names and short "
        "properties are 255 bytes at most"
    )


def closed(reason: BaseException) -> Closed:
    """Why a connection or channel closed, from the exception that pika hands over."""
    if isinstance(reason, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        by_us = isinstance(
            reason, exceptions.ConnectionClosedByClient | exceptions.ChannelClosedByClient
        )
        return Closed(0 if by_us else reason.reply_code, str(reason.reply_text))
    if isinstance(reason, exceptions.AMQPHeartbeatTimeout):
        return Closed(0, "the broker sent nothing for longer than the heartbeat allows")
    return Closed(0, _root_text(reason))


def connect_error(error: BaseException, host: Host, vhost: str) -> ConnectError:
    """The error for a connection that could not be opened."""
    text = _root_text(error)
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return AuthenticationError(
            f"the broker at {host} refused the user name and password of the URL"
        )
    if isinstance(error, exceptions.ProbableAccessDeniedError) and "(530)" in text:
        return VirtualHostError(
            f"the broker at {host} refused the virtual host {vhost!r}: it does not exist, or "
            "this user has no permission for it"
        )
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return ConnectError(f"what listens at {host} does not speak AMQP 0-9-1")
    return ConnectError(f"no connection to the broker at {host}: {text}")


def _root_text(error: BaseException) -> str:
    """The innermost reason: pika wraps an OSError several times, and prints all the wrappers."""
    seen: Any = error
    for _ in range(8):
        inner = getattr(seen, "exceptions", None) or getattr(seen, "exception", None) or seen.args
        inner = inner[-1] if isinstance(inner, list | tuple) and inner else inner
        if not isinstance(inner, BaseException):
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return str(seen) or type(seen).__name__
