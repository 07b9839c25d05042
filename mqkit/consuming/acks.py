"""Decides which acks to write for finished deliveries, and how long a channel stays open after.

One ack with `multiple` stands for all up to the first that is unfinished, and those beyond it have
one each (https://www.rabbitmq.com/docs/confirms#consumer-acks-multiple-parameter).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mqkit.clock import loop_clock
from mqkit.message import Delivery, DeliveryChannel
from mqkit.outcome import Outcome

UNDER_WAY = 32
"""Commands, acks and nacks, that a channel passes on without an answer: RabbitMQ's
`quorum_commands_soft_limit`."""

ANSWERED = 0.5
"""Seconds after which a queue has answered. On two cores that were kept busy otherwise, acks were
lost after 0.02 s and none after 0.1 s."""

TICK = 0.01
"""Seconds whose commands are counted together."""


class AckBatch:
    """Collects what is to be acked on one channel, and writes as few acks as say it.

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
        """Add what is to be acked; True for the first since `take`, which must follow soon."""
        self._due.append((delivery, outcome))
        return len(self._due) == 1

    def nacked(self, delivery: Delivery) -> None:
        """Note that a delivery was nacked or rejected, and needs no ack."""
        self._settled.add(delivery.tag)

    def last_unsettled(self, tag: int) -> int:
        """Return the highest tag up to this one that is not settled; 0 if all are."""
        while tag > self._settled_to and tag in self._settled:
            tag -= 1
        return tag if tag > self._settled_to else 0

    def take(self) -> tuple[list[tuple[int, bool]], list[tuple[Delivery, Outcome]]]:
        """Return the acks to write now (tag, `multiple`), and the deliveries that they are for."""
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


def claim(delivery: Delivery) -> bool:
    """Mark a delivery as settled; False where it may not be: it is already, or it is lost."""
    if delivery.settled or delivery.lost:
        return False
    delivery.settled = True
    return True


@dataclass(slots=True)
class _Tick:
    start: float
    commands: int


class CloseDelay:
    """Knows how long a channel must stay open after acks, so that RabbitMQ applies them.

    A channel has so many commands to a quorum queue under way. What else it is told it keeps until
    the queue has answered these, and loses when it is closed before: messages come again that were
    acked (https://github.com/rabbitmq/rabbitmq-server/issues/10327; 4.0 and 4.3 alike). Nothing in
    AMQP 0-9-1 asks whether an ack was carried out, so what is left is to wait.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or loop_clock()
        self._recent: deque[_Tick] = deque()

    def wrote(self, commands: int) -> None:
        """Count acks and nacks that are written now."""
        now = self._clock()
        if self._recent and now < self._recent[-1].start + TICK:
            self._recent[-1].commands += commands
            return
        self._recent.append(_Tick(now, commands))
        while self._recent[0].start <= now - TICK - ANSWERED:
            self._recent.popleft()

    @property
    def ago(self) -> float | None:
        """How many seconds ago acks or nacks were written last; None if none ever were."""
        return self._clock() - self._recent[-1].start if self._recent else None

    def seconds(self, at_a_time: int = UNDER_WAY) -> float:
        """Return in how many seconds the channel may be closed.

        :param at_a_time: how many unsettled messages it had at most; with fewer than `UNDER_WAY`
            the broker never has as many acks to carry out
        """
        if at_a_time < UNDER_WAY:
            return 0.0
        now = self._clock()
        commands = 0
        for tick in reversed(self._recent):
            commands += tick.commands
            if commands >= UNDER_WAY:
                return max(tick.start + TICK + ANSWERED - now, 0.0)
        return 0.0
