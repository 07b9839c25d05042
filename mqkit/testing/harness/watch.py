"""Notes what becomes of the messages of the service that a harness runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqkit.broker.later import seconds_left
from mqkit.clock import Clock, utc_now
from mqkit.message import Delivery, Header, Message
from mqkit.middleware import Observer
from mqkit.outcome import Ack, DeadLetter, Outcome, RetryAfter
from mqkit.registration.service import Service
from mqkit.testing.harness.journeys import Journeys
from mqkit.testing.harness.records import DeadLettered, Handled, Published, Retried, decoded
from mqkit.testing.harness.routing import queues_for

_MACHINERY = {Header.EXCHANGE, Header.REPLY}
"""Headers that only a copy of a delivery (a retry, a dead letter, one for a partition) and a reply
have. A service cannot publish any of mqkit's headers."""


class Watch(Observer):
    """Observes one service; `now` is seconds of the harness's clock, `clock` its time of day."""

    def __init__(self, service: Service, now: Callable[[], float], clock: Clock = utc_now) -> None:
        self.published: list[Published] = []
        self.handled: list[Handled] = []
        self.retried: list[Retried] = []
        self.dead_lettered: list[DeadLettered] = []
        holding = {
            handler.queue.name for handler in service.handlers if handler.order_by is not None
        }
        self.journeys = Journeys(now, holding)
        self.nowhere: dict[str, str] = {}
        """Messages of the test that reach no queue of the service, and how they were published."""
        self._clock = clock
        self._service = service
        self._handlers = {handler.queue.name: handler.name for handler in service.handlers}

    def settled(self, handler: str, delivery: Delivery, outcome: Outcome) -> None:
        """Note a delivery of the service that was settled."""
        run: dict[str, Any] = {
            "handler": handler,
            "queue": delivery.queue,
            "message_id": delivery.message_id,
            "exchange": delivery.exchange,
            "routing_key": delivery.routing_key,
            "attempt": delivery.attempt,
            "body": decoded(delivery.body, delivery.properties),
            "properties": delivery.properties,
            "raw": delivery.body,
        }
        match outcome:
            case Ack():
                self.handled.append(Handled(**run))
            case RetryAfter(delay, error):
                self.retried.append(Retried(**run, delay=delay, error=error))
            case DeadLetter(reason, error):
                self.dead_lettered.append(DeadLettered(**run, reason=reason, error=error))
            case _:
                pass  # it was lost or given back, and comes again
        self.journeys.settled(delivery, outcome)

    def confirmed(self, message: Message) -> None:
        """Note a message that the service published, and no copy or reply: these are outcomes."""
        properties = message.properties
        if _MACHINERY & properties.headers.keys():
            return
        self.published.append(
            Published(
                exchange=message.exchange,
                routing_key=message.routing_key,
                body=decoded(message.body, properties),
                properties=properties,
                raw=message.body,
                due=message.due,
            )
        )
        self._expect(message)

    def on_own_publish(self, message: Message) -> None:
        """Note a message that the test published."""
        if self._expect(message):
            return
        message_id = message.properties.message_id or ""
        self.nowhere[message_id] = (
            f"message {message_id} to exchange {message.exchange!r} with routing key "
            f"{message.routing_key!r} goes to no queue of service {self._service.name!r} "
            f"({', '.join(self._handlers)})"
        )

    def _expect(self, message: Message) -> set[str]:
        found = queues_for(
            self._service.topology,
            message.exchange,
            message.routing_key,
            message.properties.headers,
        ) & set(self._handlers)
        held = None if message.due is None else seconds_left(message.due, self._clock())
        for queue in found:
            self.journeys.published(message.properties.message_id, queue, held)
        return found
