"""The hot path, 3 of 3: carries out an outcome. The only module that acks or nacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mqkit.consuming.acks import AckBatch, CloseDelay, claim
from mqkit.consuming.republisher import Republisher
from mqkit.errors import ChannelClosedError
from mqkit.message import Delivery, DeliveryChannel
from mqkit.middleware import Observers
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue


class Settler:
    """Settles the deliveries of one consumer."""

    def __init__(
        self,
        republisher: Republisher,
        observer: Observers | None,
        *,
        keeps_place: bool = False,
    ) -> None:
        """Settle nothing yet.

        :param keeps_place: messages that are given back are left to the closing of the channel,
            by which the broker requeues all of them at once, in their order
        """
        self._log = republisher.log
        self._republisher = republisher
        self._observer = observer
        self._acks: AckBatch | None = None
        self.close_delay = CloseDelay()
        self.give_back = self._leave if keeps_place else self.requeue

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Carry out the outcome. Cancelling the caller does not stop a copy that is on its way."""
        match outcome:
            case Ack() if not delivery.properties.reply_to:
                self._ack(delivery, outcome)
            case Requeue() | Lost():
                self.settle_at_once(delivery, outcome)
            case _:  # a reply, a retry, a dead letter: published and confirmed before the ack
                await self._republisher.publish(delivery, outcome, then=self._ack)

    def settle_at_once(self, delivery: Delivery, outcome: Ack | Requeue | Lost) -> None:
        """Carry out an outcome for which nothing is published: an ack that asks for no reply."""
        match outcome:
            case Ack():
                self._ack(delivery, outcome)
            case Requeue():
                self.give_back(delivery)
            case Lost():
                self._lose(delivery)

    def requeue(self, delivery: Delivery) -> None:
        """Give the message back to its queue, unless it is settled already."""
        if claim(delivery):
            nack = self._acks_of(delivery).channel.nack
            self._write(delivery, Requeue(), lambda: nack(delivery.tag, requeue=True))

    def refuse(self, delivery: Delivery, error: BaseException, *, requeue: bool) -> None:
        """Leave a message that could not be settled otherwise to the broker.

        The broker dead-letters it, without an account of what happened. A queue whose dead letters
        are not known gets it back instead, and its delivery limit ends it: `basic.reject` counts
        towards that limit on every version, and `basic.nack` does not from RabbitMQ 4.3 on.
        """
        if claim(delivery):
            reject = self._acks_of(delivery).channel.reject
            outcome = Requeue() if requeue else DeadLetter(DeathReason.UNSETTLED, error)
            self._write(delivery, outcome, lambda: reject(delivery.tag, requeue=requeue))

    def give_back_all(self, channel: DeliveryChannel, tag: int) -> None:
        """Nack all that is unsettled of a channel that will be closed, up to a delivery tag.

        :raises ChannelClosedError: the channel is closed
        """
        self.flush()
        if (last := self._acks_on(channel).last_unsettled(tag)) > 0:
            channel.nack(last, requeue=True, multiple=True)
            self.close_delay.wrote(1)

    def flush(self) -> None:
        """Write the acks that are due now, and not at the end of the loop's turn."""
        if self._acks is not None:
            self._write_acks(self._acks)

    def _write(self, delivery: Delivery, outcome: Outcome, nack: Callable[[], None]) -> None:
        try:
            nack()
        except ChannelClosedError:
            self._lose(delivery)
        else:
            self._acks_of(delivery).nacked(delivery)
            self.close_delay.wrote(1)
            self._give(delivery, outcome)

    def _leave(self, delivery: Delivery) -> None:
        if claim(delivery):
            self._give(delivery, Requeue())

    def _ack(self, delivery: Delivery, outcome: Outcome) -> None:
        if claim(delivery):
            acks = self._acks_of(delivery)
            if acks.add(delivery, outcome):
                # At the end of the loop's turn: little at once, and much together.
                asyncio.get_running_loop().call_soon(self._write_acks, acks)
        elif not delivery.settled:
            self._lose(delivery)

    def _write_acks(self, acks: AckBatch) -> None:
        writes, due = acks.take()
        try:
            for tag, multiple in writes:
                acks.channel.ack(tag, multiple)
        except ChannelClosedError:
            for delivery, _ in due:
                self._lose(delivery)
        else:
            self.close_delay.wrote(len(writes))
            if self._observer is not None and due:  # a flush may find nothing
                self._observer.settled_together(self._log.handler, due)
            if self._log.tells_successes:
                for delivery, outcome in due:
                    if isinstance(outcome, Ack):  # a copy's is logged when it is confirmed
                        self._log.done(delivery)

    def _acks_of(self, delivery: Delivery) -> AckBatch:
        """Return the acks of its channel: there is one at a time that deliveries come by."""
        assert delivery.channel is not None, "only what a broker delivered is settled"
        return self._acks_on(delivery.channel)

    def _acks_on(self, channel: DeliveryChannel) -> AckBatch:
        if self._acks is None or self._acks.channel is not channel:
            self._acks = AckBatch(channel)
        return self._acks

    def _lose(self, delivery: Delivery) -> None:
        self._log.lost(delivery)
        self._tell(delivery, Lost())

    def _give(self, delivery: Delivery, outcome: Outcome) -> None:
        if isinstance(outcome, Requeue):
            self._log.given_back(delivery)
        self._tell(delivery, outcome)

    def _tell(self, delivery: Delivery, outcome: Outcome) -> None:
        if self._observer is not None:
            self._observer.settled(self._log.handler, delivery, outcome)
