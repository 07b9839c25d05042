"""When a channel may be closed after acks: RabbitMQ forgets some of one that is closed at once.

A channel has so many commands to a quorum queue under way. What else it is told it keeps until the
queue has answered these, and loses when it is closed before: messages come again that were acked
(https://github.com/rabbitmq/rabbitmq-server/issues/10327; 4.0 and 4.3 alike). Nothing in AMQP 0-9-1
asks whether an ack was carried out, so what is left is to wait.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

UNDER_WAY = 32
"""Commands, acks and nacks, that a channel passes on without an answer: RabbitMQ's
`quorum_commands_soft_limit`."""

ANSWERED = 0.5
"""Seconds after which a queue has answered. On two cores that were kept busy otherwise, acks were
lost after 0.02 s and none after 0.1 s."""

TICK = 0.01
"""Seconds whose commands are counted together."""


@dataclass(slots=True)
class _Tick:
    start: float
    commands: int


class Told:
    """What the broker was told lately of the deliveries of one consumer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[_Tick] = deque()

    def note(self, commands: int) -> None:
        """So many were written now."""
        now = self._clock()
        if self._recent and now < self._recent[-1].start + TICK:
            self._recent[-1].commands += commands
            return
        self._recent.append(_Tick(now, commands))
        while self._recent[0].start <= now - TICK - ANSWERED:
            self._recent.popleft()

    def left(self) -> float:
        """Seconds until the consumer's channel may be closed."""
        now = self._clock()
        commands = 0
        for tick in reversed(self._recent):
            commands += tick.commands
            if commands >= UNDER_WAY:
                return max(tick.start + TICK + ANSWERED - now, 0.0)
        return 0.0
