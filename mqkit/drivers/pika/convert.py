"""Converts between mqkit's and pika's types, for the pika driver and the blocking publisher."""

from __future__ import annotations

from typing import Any

import pika
from pika import exceptions, frame

from mqkit.amqp import content_header, field_tables
from mqkit.drivers import common, refusals
from mqkit.drivers.base import Closed, Incoming, Returned
from mqkit.drivers.frames import END, HEAD, HEADER
from mqkit.errors import ConnectError
from mqkit.message import Properties
from mqkit.settings import BrokerUrl, Host
from mqkit.system.reasons import root_text


def quiet_pika() -> None:
    """Set pika's logger to critical errors alone, unless the application chose a level for it."""
    common.quiet("pika")


def parameters(url: BrokerUrl, host: Host, name: str) -> pika.ConnectionParameters:
    """Make pika's parameters for one attempt to connect to one host."""
    return pika.ConnectionParameters(
        host=host.name,
        port=host.port,
        virtual_host=url.vhost,
        credentials=pika.PlainCredentials(
            url.username, url.password.get_secret_value(), erase_on_connect=True
        ),
        heartbeat=url.heartbeat,
        client_properties={"connection_name": name, "product": "mqkit"},
    )


class EncodedProperties(pika.BasicProperties):  # type: ignore[misc]
    """Properties for pika to write as mqkit encodes them: it cannot write a float (1.4.4)."""

    def __init__(self, properties: Properties) -> None:
        super().__init__()
        self._encoded = content_header.encode(properties, properties.headers)

    @property
    def size(self) -> int:
        """Bytes of the content header."""
        return content_header.START + len(self._encoded)

    def encode(self) -> list[bytes]:
        """Return the encoded properties; called by pika for the content header's frame."""
        return [self._encoded]


class ReceivedProperties(pika.BasicProperties):  # type: ignore[misc]
    """Properties that mqkit has decoded in pika's place."""

    def __init__(self, decoded: Properties) -> None:
        super().__init__()
        self.decoded = decoded


def header_frame(buffer: bytes) -> tuple[int, frame.Header] | None:
    """Decode the frame of a content header as pika's `decode_frame` does; None for others.

    pika would read a float as an int (1.4.4), and end the connection over tables that are deep.

    :raises Exception: one of `field_tables.UNREADABLE`, for what is no content header
    """
    if len(buffer) < HEAD.size:
        return None
    kind, channel, length = HEAD.unpack_from(buffer)
    end = HEAD.size + length
    if kind != HEADER or len(buffer) <= end or buffer[end] != END:
        return None
    size, properties = content_header.decode(buffer, HEAD.size, end)
    return end + 1, frame.Header(channel, size, ReceivedProperties(properties))


def incoming(method: Any, properties: ReceivedProperties, body: bytes) -> Incoming:
    """Convert a `basic.get-ok`."""
    return Incoming(
        method.delivery_tag,
        method.redelivered,
        _name(method.exchange),
        _name(method.routing_key),
        properties.decoded,
        body,
    )


def returned(method: Any, properties: ReceivedProperties) -> Returned:
    """Convert a `basic.return`."""
    return Returned(
        method.reply_code,
        _name(method.reply_text),
        _name(method.exchange),
        _name(method.routing_key),
        properties.decoded,
    )


def _name(value: str | bytes) -> str:
    """Decode a short string that pika left as bytes, as it does where it is no UTF-8."""
    return field_tables.text(value) if isinstance(value, bytes) else value


def closed(reason: BaseException) -> Closed:
    """Return why a connection or channel closed, from the exception that pika hands over."""
    if isinstance(reason, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        by_us = isinstance(
            reason, exceptions.ConnectionClosedByClient | exceptions.ChannelClosedByClient
        )
        return Closed(0 if by_us else reason.reply_code, str(reason.reply_text))
    return Closed(0, root_text(reason))


def connect_error(error: BaseException, url: BrokerUrl, host: Host) -> ConnectError:
    """Make the error for a connection that could not be opened."""
    # 'Probable' is pika's word for any end at that point, a broker's that stops among them. One
    # that refuses says so, as pika tells that it understands it (`authentication_failure_close`).
    is_probable = isinstance(error, exceptions.ProbableAuthenticationError)
    if isinstance(error, exceptions.AuthenticationError) or (
        is_probable and "(403)" in root_text(error)
    ):
        return refusals.login_refused(host)
    is_refused = isinstance(error, exceptions.ProbableAccessDeniedError)
    if is_refused and "(530)" in root_text(error):
        return refusals.vhost_refused(host, url.vhost)
    if isinstance(error, exceptions.IncompatibleProtocolError) and not any(
        # pika says so too where the stream ended before the peer said anything.
        known in str(error)
        for known in ("StreamLost", refusals.TLS_RECORD)
    ):
        return refusals.not_amqp(host)
    return refusals.no_connection(url, host, error)
