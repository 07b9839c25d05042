"""A channel's transaction: what it publishes and settles, held until it is committed.

As in RabbitMQ (https://www.rabbitmq.com/docs/semantics#tx): where a message goes is found as it is
published, so that a queue that is bound later does not get it; returns come at the commit; what
was settled still counts towards the prefetch until then. A commit is no promise of all or nothing:
publishes come first, and what a full queue refuses fails the commit, not the others of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mqkit.embedded.engine.memory import Memory
from mqkit.embedded.engine.message import Message
from mqkit.embedded.engine.vhost import Target
from mqkit.embedded.errors import precondition_failed
from mqkit.embedded.session.unacked import Settle, Unacked, free_prefetch


@dataclass(slots=True)
class _Publish:
    """A message that waits for the commit."""

    message: Message
    targets: Sequence[Target]
    mandatory: bool


class Transaction:
    """What one channel has done since its last commit or rollback."""

    def __init__(self, memory: Memory, return_: Callable[[Message], None]) -> None:
        """Start with nothing held.

        :param memory: counts the messages that wait for the commit
        :param return_: gives a mandatory message back to the client that published it
        """
        self._memory = memory
        self._return = return_
        self._publishes: list[_Publish] = []
        self._settled: list[tuple[Settle, dict[int, Unacked]]] = []

    def publish(self, message: Message, targets: Sequence[Target], *, mandatory: bool) -> None:
        """Offer a message to these at the commit."""
        self._memory.hold(message)
        message.condense()
        self._publishes.append(_Publish(message, targets, mandatory))

    def settle(self, how: Settle, taken: dict[int, Unacked]) -> None:
        """Settle deliveries at the commit."""
        self._settled.append((how, taken))

    def commit(self) -> Iterator[None]:
        """Do all that was held, in short steps.

        :raises ReplyError: 406, a queue refused a message; all else is done
        """
        publishes, self._publishes = self._publishes, []
        settled, self._settled = self._settled, []
        refused = False
        for each in publishes:
            for target in each.targets:
                refused = not target.offer(each.message) or refused
                yield
            self._memory.let_go(each.message)
            if not each.targets and each.mandatory:
                self._return(each.message)
        for how, deliveries in settled:
            how(free_prefetch(deliveries.values()))
            yield
        if refused:
            raise precondition_failed("partial tx completion")

    def rollback(self) -> dict[int, Unacked]:
        """Forget the publishes; returns the deliveries that are to be settled anew."""
        for each in self._publishes:
            self._memory.let_go(each.message)
        self._publishes.clear()
        settled, self._settled = self._settled, []
        return {tag: each for _, taken in settled for tag, each in taken.items()}
