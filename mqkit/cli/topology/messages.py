"""Makes the messages that are moved, as consumers make their copies."""

from __future__ import annotations

import time
from dataclasses import replace

from mqkit.amqp.content_header import carry
from mqkit.codec import DeliveryDecoder
from mqkit.consuming.copies import fitted, forward_copy
from mqkit.consuming.headers import drop_untrusted_headers, seconds_to_live, to_delivery
from mqkit.consuming.ordering import OrderKeys, PartitionRouter
from mqkit.drivers.base import Incoming
from mqkit.errors import InvalidMessageError
from mqkit.message import Delivery, Header, Message
from mqkit.outcome import Forward
from mqkit.registration.handler import Handler
from mqkit.topology import Queue


class MovedMessages:
    """Makes copies that a handler gets as it would have got the originals."""

    def __init__(self) -> None:
        self._routers: dict[str, PartitionRouter] = {}

    def copy(self, incoming: Incoming, queue: Queue, exchange: str, routing_key: str) -> Message:
        """Make the message that takes the place of one of a queue's.

        Its first exchange and routing key, and its attempts, go along as with a retry. A dead
        letter stays as it is, the broker's account of its death included.
        """
        if queue.keeps_dead_letters:
            return _dead_letter(incoming, exchange, routing_key)
        delivery = _delivery(incoming, queue.name)
        to_live = seconds_to_live(delivery, time.monotonic())
        return forward_copy(delivery, exchange, routing_key, time_to_live=to_live)

    def fit(self, message: Message, error: InvalidMessageError) -> Message:
        """Return a message with less in it, after it could not be written.

        :raises InvalidMessageError: `error`, as nothing is left that could be taken away
        """
        return fitted(message, error)

    async def partition(self, incoming: Incoming, handler: Handler) -> str | None:
        """Return the partition of a message; None where its body or its key is none."""
        router = self._routers.get(handler.name)
        if router is None:
            decode = DeliveryDecoder(handler.plan.decoder).decode
            router = PartitionRouter(handler, OrderKeys(handler, decode))
            self._routers[handler.name] = router
        outcome = await router.dispatch(_delivery(incoming, handler.queue.name))
        return outcome.queue if isinstance(outcome, Forward) else None


def _delivery(incoming: Incoming, queue: str) -> Delivery:
    headers = dict(incoming.properties.headers)
    own = replace(incoming, properties=replace(incoming.properties, headers=headers))
    drop_untrusted_headers(own, queue)
    return to_delivery(own, queue, None)  # type: ignore[arg-type]


def _dead_letter(incoming: Incoming, exchange: str, routing_key: str) -> Message:
    origin = incoming.properties
    headers = {name: value for name, value in origin.headers.items() if name != Header.PUBLISH}
    copy = replace(origin, headers=headers, persistent=True, expiration=None, user_id=None)
    return Message(exchange, routing_key, incoming.body, carry(copy, origin, _is_kept))


def _is_kept(name: str) -> bool:
    return name != Header.PUBLISH
