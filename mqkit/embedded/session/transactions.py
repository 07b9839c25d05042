"""`tx.*`: what is published and settled on a channel, held until it is committed.

As in RabbitMQ (https://www.rabbitmq.com/docs/semantics#tx): where a message goes is found as it is
published, so that a queue that is bound later does not get it; returns come at the commit; what
was settled still counts towards the prefetch until then. A commit is no promise of all or nothing:
publishes come first, and what a full queue refuses fails the commit, not the others of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pamqp import commands

from mqkit.embedded.errors import precondition_failed

if TYPE_CHECKING:
    from mqkit.embedded.engine.message import Message
    from mqkit.embedded.engine.vhost import Target
    from mqkit.embedded.session.channel import Channel, Unacked

Settle = Callable[["Channel", list["Unacked"]], None]
"""What an ack, nack or reject does with deliveries that were taken out of the channel."""


@dataclass(slots=True)
class _Publish:
    """A message that waits for the commit."""

    message: Message
    targets: Sequence[Target]
    mandatory: bool


class Transaction:
    """What one channel has done since its last commit or rollback."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._publishes: list[_Publish] = []
        self._settled: list[tuple[Settle, dict[int, Unacked]]] = []

    def publish(self, message: Message, targets: Sequence[Target], *, mandatory: bool) -> None:
        """Offer it to these at the commit."""
        self._channel.vhost.memory.hold(message)
        message.condense()
        self._publishes.append(_Publish(message, targets, mandatory))

    def settle(self, how: Settle, taken: dict[int, Unacked]) -> None:
        """Settle deliveries at the commit."""
        self._settled.append((how, taken))

    def commit(self) -> Iterator[None]:
        """Do all of it, in short steps.

        :raises ReplyError: 406, a queue refused a message; all else is done
        """
        publishes, self._publishes = self._publishes, []
        settled, self._settled = self._settled, []
        refused = False
        for each in publishes:
            for target in each.targets:
                refused = not target.offer(each.message) or refused
                yield
            self._channel.vhost.memory.let_go(each.message)
            if not each.targets and each.mandatory:
                self._channel.return_(each.message)
        for how, deliveries in settled:
            how(self._channel, self._channel.settled(deliveries))
            yield
        if refused:
            raise precondition_failed("partial tx completion")

    def rollback(self) -> None:
        """Forget the publishes, and let what was settled be settled anew."""
        for each in self._publishes:
            self._channel.vhost.memory.let_go(each.message)
        self._publishes.clear()
        for _, deliveries in self._settled:
            self._channel.unacked.update(deliveries)
        if self._settled:
            # `multiple` relies on their order.
            self._channel.unacked = dict(sorted(self._channel.unacked.items()))
        self._settled.clear()


def select(channel: Channel, _: commands.Tx.Select) -> None:
    """`tx.select`; twice is once."""
    if channel.confirming:
        raise precondition_failed("cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction(channel)
    channel.send(commands.Tx.SelectOk())


def commit(channel: Channel, _: commands.Tx.Commit) -> Iterator[None]:
    """`tx.commit`: it is answered once all of it is done and durable."""
    yield from _transaction(channel).commit()
    channel.connection.node.settle()
    channel.send(commands.Tx.CommitOk())


def rollback(channel: Channel, _: commands.Tx.Rollback) -> None:
    """`tx.rollback`."""
    _transaction(channel).rollback()
    channel.send(commands.Tx.RollbackOk())


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise precondition_failed("channel is not transactional")
    return channel.transaction


HANDLERS: dict[type, Any] = {
    commands.Tx.Select: select,
    commands.Tx.Commit: commit,
    commands.Tx.Rollback: rollback,
}
