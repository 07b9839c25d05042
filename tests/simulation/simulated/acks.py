"""Acks as RabbitMQ carries them out: some at a time, and the rest is forgotten with the channel.

A channel passes on so many commands to a quorum queue until the queue has answered; what it keeps
back it loses when it is closed (https://github.com/rabbitmq/rabbitmq-server/issues/10327).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from mqkit.embedded.session.channel import Channel
from mqkit.embedded.session.unacked import Settle, Unacked, acknowledge, free_prefetch

UNDER_WAY = 4
"""Commands that a channel passes on. RabbitMQ's are 32: with fewer of them few messages will do."""

ANSWERED = 0.05
"""Seconds until the queue has answered."""

_settle, _release = Channel.settle, Channel.release


class _Line:
    """The commands of one channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._under_way = 0
        self.kept: deque[dict[int, Unacked]] = deque()

    def add(self, taken: dict[int, Unacked]) -> None:
        self.kept.append(taken)
        self._pass_on()

    def _pass_on(self) -> None:
        clock = self._channel.vhost.clock
        while self.kept and self._under_way < UNDER_WAY:
            self._under_way += 1
            clock.call_at(clock.now() + ANSWERED, self._answered)
            acknowledge(free_prefetch(self.kept.popleft().values()))

    def _answered(self) -> None:
        self._under_way -= 1
        self._pass_on()


def settle(self: Any, tag: int, how: Settle, *, multiple: bool) -> None:
    """Settle deliveries as `Channel.settle` does; an ack waits for its turn."""
    if how is not acknowledge or self.transaction is not None:
        _settle(self, tag, how, multiple=multiple)
        return
    if not hasattr(self, "line"):
        self.line = _Line(self)
    self.line.add(self._take(tag, multiple=multiple))


def release(self: Any) -> None:
    """End a channel as `Channel.release` does; acks that it kept back are forgotten."""
    if hasattr(self, "line"):
        for taken in self.line.kept:
            self.unacked.update(taken)
        self.line.kept.clear()
        self.unacked = dict(sorted(self.unacked.items()))
    _release(self)
