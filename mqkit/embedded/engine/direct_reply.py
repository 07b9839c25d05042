"""Direct reply-to: answers that go straight to the channel that asked, through no queue.

https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from mqkit.embedded.engine.message import Message

NAME = "amq.rabbitmq.reply-to"
"""The pseudo-queue to consume from, and the `reply_to` to publish with."""

REPLY_PREFIX = NAME + "."
"""What the `reply_to` that the answering side sees begins with."""


class Replies:
    """The channels that wait for answers, by the routing key that reaches them."""

    def __init__(self) -> None:
        # Which addresses are of this broker's making can be told without keeping all of them.
        self._prefix = f"{REPLY_PREFIX}{secrets.token_urlsafe(8)}."
        self._waiting: dict[str, Callable[[Message], None]] = {}

    def register(self, deliver: Callable[[Message], None]) -> str:
        """A routing key of its own for whoever waits."""
        key = self._prefix + secrets.token_urlsafe(24)
        self._waiting[key] = deliver
        return key

    def forget(self, key: str) -> None:
        """Nobody waits there any more."""
        self._waiting.pop(key, None)

    def is_known(self, key: str) -> bool:
        """True if somebody waits there."""
        return key in self._waiting

    def is_ours(self, key: str) -> bool:
        """True if it is of this broker's making; whoever waited there may have gone."""
        return key.startswith(self._prefix)

    def offer(self, message: Message) -> bool:
        """Hand an answer over; as with RabbitMQ 4.3, it is dropped if its asker has gone."""
        deliver = self._waiting.get(message.routing_key)
        if deliver is not None:
            deliver(message)
        return True
