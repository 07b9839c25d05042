"""Direct reply-to: replies that go straight to the channel that asked, through no queue.

https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

from collections.abc import Callable

from mqkit.embedded.engine.message import Message

NAME = "amq.rabbitmq.reply-to"
"""The pseudo-queue to consume from, and the `reply_to` to publish with."""

REPLY_PREFIX = NAME + "."
"""What the `reply_to` that the answering side sees begins with."""


class Replies:
    """The channels that wait for replies, by the routing key that reaches them."""

    def __init__(self, token: Callable[[int], str]) -> None:
        """Wait for none.

        :param token: makes a text of so many random bytes
        """
        self.token = token
        # Which addresses are of this broker's making can be told without keeping all of them.
        self._prefix = f"{REPLY_PREFIX}{token(8)}."
        self._waiting: dict[str, Callable[[Message], None]] = {}

    def register(self, deliver: Callable[[Message], None]) -> str:
        """Return a new routing key, whose messages are handed to `deliver`."""
        key = self._prefix + self.token(24)
        self._waiting[key] = deliver
        return key

    def forget(self, key: str) -> None:
        """Drop the messages of this routing key from now on."""
        self._waiting.pop(key, None)

    def is_known(self, key: str) -> bool:
        """Return True if a channel waits for replies at this routing key."""
        return key in self._waiting

    def is_ours(self, key: str) -> bool:
        """Return True if this broker made the routing key; its channel may have gone."""
        return key.startswith(self._prefix)

    def offer(self, message: Message) -> bool:
        """Hand a reply over; as with RabbitMQ 4.3, it is dropped if its asker has gone."""
        deliver = self._waiting.get(message.routing_key)
        if deliver is not None:
            deliver(message)
        return True
