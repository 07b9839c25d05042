"""Which acks to write for the deliveries of one channel that are done: as few as say it. Pure.

One ack with `multiple` stands for all up to the first that is unfinished, and those beyond it have
one each (https://www.rabbitmq.com/docs/confirms#consumer-acks-multiple-parameter).
"""

from __future__ import annotations

from mqkit.message import Delivery, DeliveryChannel
from mqkit.outcome import Outcome


class Acks:
    """What is to be acked on one channel.

    Delivery tags count the deliveries of a channel from 1 (AMQP 0-9-1, section 1.1 "delivery-tag"),
    and all of them come to one consumer. So all up to a tag are settled if each of them is.
    """

    def __init__(self, channel: DeliveryChannel) -> None:
        self.channel = channel
        self._due: list[tuple[Delivery, Outcome]] = []
        self._settled_to = 0
        """All up to this tag are settled."""
        self._settled: set[int] = set()
        """Settled, with one before it that is not."""

    def add(self, delivery: Delivery, outcome: Outcome) -> bool:
        """It is to be acked. Whether it is the first since `take`, which must follow soon."""
        self._due.append((delivery, outcome))
        return len(self._due) == 1

    def nacked(self, delivery: Delivery) -> None:
        """It needs no ack."""
        self._settled.add(delivery.tag)

    def take(self) -> tuple[list[tuple[int, bool]], list[tuple[Delivery, Outcome]]]:
        """The acks to write now, tag and `multiple`, and the deliveries that they are for."""
        due, self._due = self._due, []
        tags = [delivery.tag for delivery, _ in due]
        self._settled.update(tags)
        while self._settled_to + 1 in self._settled:
            self._settled_to += 1
            self._settled.remove(self._settled_to)
        covered = [tag for tag in tags if tag <= self._settled_to]
        acks = [(tag, False) for tag in tags if tag > self._settled_to]
        if covered:
            # The last one that is still unacked: an ack of another would close the channel.
            acks.insert(0, (max(covered), len(covered) > 1))
        return acks, due
