"""What the broker's words make of a publish: its errors, and which one a closed channel blames.

Shared by both publishers, and by requests.
"""

from __future__ import annotations

from mqkit.drivers.base import Closed, Returned
from mqkit.errors import (
    ExchangeNotFoundError,
    NackedError,
    PublishError,
    PublishRefusedError,
    UnroutableError,
)
from mqkit.message import Message

NOT_FOUND = 404

DEFAULT_EXCHANGE = "amq.default"
"""What RabbitMQ calls the exchange with the empty name where it refuses a publish to it."""

HARMLESS_CODES = frozenset({0, 200, 320, 541})
"""Reply codes that blame no message: lost, closed by us, forced to close, broker failing."""


def publish_error(kind: type[PublishError], message: Message, problem: str) -> PublishError:
    """An error of one kind about one message."""
    return kind(
        problem,
        exchange=message.exchange,
        routing_key=message.routing_key,
        message_id=message.properties.message_id,
    )


def exchange_not_found(message: Message) -> PublishError:
    """The broker knows no exchange of that name."""
    return publish_error(
        ExchangeNotFoundError,
        message,
        f"exchange {message.exchange!r} does not exist in this virtual host; "
        "declare it, or start the service that does",
    )


def unroutable(message: Message, returned: Returned) -> PublishError:
    """The broker returned a mandatory message."""
    return publish_error(
        UnroutableError,
        message,
        f"the broker returned it ({returned.code} {returned.text}): no queue is bound for it",
    )


def nacked(message: Message) -> PublishError:
    """The broker answered `basic.nack`, and may have stored the message all the same."""
    return publish_error(
        NackedError,
        message,
        "a queue refused it (basic.nack); it may be stored all the same",
    )


def is_about_an_exchange(why: Closed) -> bool:
    """Whether the broker names the exchange over which it closed the channel."""
    return "exchange '" in why.text


def refusal(message: Message, why: Closed) -> PublishError | None:
    """The error of this publish, if the broker's words tell that the channel closed over it.

    RabbitMQ names the exchange where that is the problem, and the size of a body that is too
    large.
    """
    if f"message size {len(message.body)} " in why.text:
        return publish_error(PublishRefusedError, message, why.text)
    if f"exchange '{message.exchange or DEFAULT_EXCHANGE}'" not in why.text:
        return None
    if "topic '" in why.text and f"topic '{message.routing_key}'" not in why.text:
        return None
    if why.code == NOT_FOUND:
        return exchange_not_found(message)
    return publish_error(PublishRefusedError, message, why.text)
