"""The errors of a publish, built from its message; shared by both publishers."""

from __future__ import annotations

from mqkit.drivers.base import Returned
from mqkit.errors import ExchangeNotFoundError, PublishError, UnroutableError
from mqkit.message import Message


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
