"""The only place that acks or nacks: carries out the outcome that `dispatch` decided on.

A retry and a dead letter are copies: published and confirmed first, the original acked after.
If the copy is not confirmed, the original is not acked. Who asked for a reply gets it before the
ack, if it can be had in a short time; a message that is done is acked without it, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from mqkit.broker.delays import DelayLadder
from mqkit.clock import Clock, utc_now
from mqkit.consuming.acks import AckBatch, CloseDelay
from mqkit.consuming.headers import in_time, seconds_to_live
from mqkit.consuming.republisher import dead_letter_copy, fitted, forward_copy, retry_copy
from mqkit.errors import (
    BrokerError,
    ChannelClosedError,
    ExchangeNotFoundError,
    InvalidMessageError,
    PublishError,
    UnroutableError,
)
from mqkit.logging.error_texts import describe, log_error
from mqkit.logging.shown import shown
from mqkit.message import Delivery, Message
from mqkit.outcome import (
    Ack,
    DeadLetter,
    DeathReason,
    Forward,
    Lost,
    Outcome,
    Requeue,
    RetryAfter,
)
from mqkit.publishing.publisher import Publisher
from mqkit.publishing.replies import reply_to

logger = logging.getLogger(__name__)

REPLY_TIMEOUT = 5.0
"""Seconds that a reply may take to be confirmed; then its message is settled without it."""

COPY_WAIT_MAX = 10.0
"""Seconds; no wait between two attempts to publish a copy is longer."""

OnSettled = Callable[[Delivery, Outcome], None]
"""Told of each delivery whose outcome was carried out, once it was: its copy confirmed, its ack
written. `Lost` is told in the place of an outcome that came too late for the delivery's channel.

It is called on the event loop and must return at once. What it raises is logged, and does not
change what became of the delivery.
"""


class Settler:
    """Settles the deliveries of one handler; `redeclare` puts its queues back on the broker.

    `on_settled` is an observer: see `OnSettled`.
    """

    def __init__(
        self,
        publisher: Publisher,
        ladder: DelayLadder,
        *,
        service: str,
        handler: str,
        redeclare: Callable[[], Awaitable[None]],
        clock: Clock = utc_now,
        on_settled: OnSettled | None = None,
    ) -> None:
        self._publisher = publisher
        self._ladder = ladder
        self._service = service
        self._handler = handler
        self._redeclare = redeclare
        self._clock = clock
        self._on_settled = on_settled
        self._acks: AckBatch | None = None
        self.close_delay = CloseDelay()
        self._working: set[asyncio.Task[None]] = set()

    async def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Carry out `outcome`. Cancelling the caller does not stop a copy that is on its way."""
        match outcome:
            case Ack() if not delivery.properties.reply_to:
                self._ack(delivery, outcome)
            case Requeue():
                self.requeue(delivery)
            case Lost():
                self._lose(delivery)
            case Ack():
                await self._to_the_end(self._reply_and_ack(delivery, outcome))
            case RetryAfter() | DeadLetter() | Forward():
                await self._to_the_end(self._replace_by_copy(delivery, outcome))

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Await it; it goes on where the caller is cancelled."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        await asyncio.shield(task)

    def requeue(self, delivery: Delivery) -> None:
        """Give the message back to its queue, unless it is settled already."""
        if not self._claim(delivery):
            return
        acks = self._acks_of(delivery)
        try:
            acks.channel.nack(delivery.tag, requeue=True)
        except ChannelClosedError:
            self._lose(delivery)
        else:
            acks.nacked(delivery)
            self.close_delay.wrote(1)
            self._tell(delivery, Requeue())

    def refuse(self, delivery: Delivery, error: BaseException, *, requeue: bool) -> None:
        """Leave a message that could not be settled otherwise to the broker.

        The broker dead-letters it, without an account of what happened. A queue whose dead letters
        are not known gets it back instead, and its delivery limit ends it: `basic.reject` counts
        towards that limit on every version, and `basic.nack` does not from RabbitMQ 4.3 on.
        """
        if not self._claim(delivery):
            return
        acks = self._acks_of(delivery)
        try:
            acks.channel.reject(delivery.tag, requeue=requeue)
        except ChannelClosedError:
            self._lose(delivery)
        else:
            acks.nacked(delivery)
            self.close_delay.wrote(1)
            outcome = Requeue() if requeue else DeadLetter(DeathReason.UNSETTLED, error)
            self._tell(delivery, outcome)

    def leave(self, delivery: Delivery) -> None:
        """Settle it no more: the broker gives it back, in its order, once its channel is closed."""
        if self._claim(delivery):
            self._tell(delivery, Requeue())

    def _ack(self, delivery: Delivery, outcome: Outcome) -> None:
        if self._claim(delivery):
            acks = self._acks_of(delivery)
            if acks.add(delivery, outcome):
                # At the end of the loop's turn: little at once, and much together.
                asyncio.get_running_loop().call_soon(self._write_acks, acks)
        elif not delivery.settled:
            self._lose(delivery)

    def write_acks(self) -> None:
        """Write the acks that are due now, and not at the end of the loop's turn."""
        if self._acks is not None:
            self._write_acks(self._acks)

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
            for delivery, outcome in due:
                self._tell(delivery, outcome)

    async def carried_out(self) -> None:
        """Wait until no ack is lost when the channel is closed: some half a second at most."""
        await asyncio.sleep(self.close_delay.seconds())

    def _acks_of(self, delivery: Delivery) -> AckBatch:
        """The acks of its channel: there is one at a time that deliveries come by."""
        if self._acks is None or self._acks.channel is not delivery.channel:
            assert delivery.channel is not None, "only what a broker delivered is settled"
            self._acks = AckBatch(delivery.channel)
        return self._acks

    @staticmethod
    def _claim(delivery: Delivery) -> bool:
        if delivery.settled or delivery.lost:
            return False
        delivery.settled = True
        return True

    def _lose(self, delivery: Delivery) -> None:
        logger.info(
            "%s: message %s was lost with its channel; the broker redelivers it",
            self._handler,
            shown(delivery.message_id),
        )
        self._tell(delivery, Lost())

    def _tell(self, delivery: Delivery, outcome: Outcome) -> None:
        if self._on_settled is None:
            return
        try:
            self._on_settled(delivery, outcome)
        except BaseException as error:  # noqa: BLE001 - the loop calls this
            text = "%s: the observer of settled deliveries failed"
            log_error(logger, logging.ERROR, text, self._handler, error=error)

    async def _replace_by_copy(
        self, delivery: Delivery, outcome: RetryAfter | DeadLetter | Forward
    ) -> None:
        if delivery.settled:
            return  # it was given back when the grace period was over, and its run failed after
        outcome = in_time(delivery, outcome, time.monotonic())
        try:
            await self._publish_copy_and_ack(delivery, outcome)
        except BrokerError as error:
            # Only now: what tenacity makes for each call waits for the garbage collector.
            await self._try_again(delivery, outcome, error)

    async def _try_again(
        self, delivery: Delivery, outcome: RetryAfter | DeadLetter | Forward, first: BrokerError
    ) -> None:
        """Go on with attempts until one succeeds, after `first` was what came of the first one."""
        failed = [first]

        async def attempt() -> None:
            if failed:
                raise failed.pop()
            await self._publish_copy_and_ack(delivery, outcome)

        attempts = AsyncRetrying(
            stop=lambda _: delivery.settled or delivery.lost,
            wait=wait_random_exponential(multiplier=0.2, max=COPY_WAIT_MAX),
            retry=retry_if_exception_type(BrokerError),
            before_sleep=lambda state: self._log_copy_failure(delivery, state),
            retry_error_callback=lambda _: None if delivery.settled else self._lose(delivery),
        )
        await attempts(attempt)

    async def _publish_copy_and_ack(
        self, delivery: Delivery, outcome: RetryAfter | DeadLetter | Forward
    ) -> None:
        message = await self._copy(delivery, outcome)
        try:
            await self._send(message)
        except (ExchangeNotFoundError, UnroutableError):
            # Somebody deleted the dead letter queue or a part of the ladder: put it back.
            self._ladder.forget()
            await self._redeclare()
            raise
        if isinstance(outcome, DeadLetter):
            await self._reply(delivery, outcome)
        self._ack(delivery, outcome)
        if not isinstance(outcome, Forward):
            self._log_copy(delivery, outcome)

    async def _copy(
        self, delivery: Delivery, outcome: RetryAfter | DeadLetter | Forward
    ) -> Message:
        now = self._clock()
        match outcome:
            case DeadLetter():
                return dead_letter_copy(delivery, outcome, self._service, self._handler, now)
            case Forward(queue):
                way = await self._ladder.route(0.0, queue)
                return forward_copy(
                    delivery, *way, time_to_live=seconds_to_live(delivery, time.monotonic())
                )
            case RetryAfter(delay):
                way = await self._ladder.route(delay, delivery.queue)
                to_live = seconds_to_live(delivery, time.monotonic(), delay)
                return retry_copy(delivery, outcome, *way, now, time_to_live=to_live)

    async def _reply_and_ack(self, delivery: Delivery, outcome: Ack) -> None:
        await self._reply(delivery, outcome)
        self._ack(delivery, outcome)

    async def _reply(self, delivery: Delivery, outcome: Ack | DeadLetter) -> None:
        """Answer who asked. The message is done, whether its reply arrives or not."""
        if delivery.settled or delivery.lost:
            return
        try:
            reply = reply_to(delivery, outcome)
            if reply is not None:
                await self._publisher.send(reply, timeout=REPLY_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - what is done stays done, whatever the reply is
            # Not the error's text, which has the address: whoever knows it can answer there.
            logger.info(
                "%s: message %s is done, but its reply did not reach who asked: %s",
                self._handler,
                shown(delivery.message_id),
                shown(error.problem) if isinstance(error, PublishError) else describe(error),
            )

    async def _send(self, message: Message) -> None:
        whole = message
        while True:
            try:
                await self._publisher.send(message)
            except InvalidMessageError as error:
                message = fitted(message, error)
            else:
                break
        if missing := whole.properties.headers.keys() - message.properties.headers.keys():
            logger.warning(
                "%s: message %s: %d of its headers cannot be written again, or do not fit into a "
                "frame; the copy goes without them",
                self._handler,
                shown(message.properties.message_id),
                len(missing),
            )

    def _log_copy(self, delivery: Delivery, outcome: RetryAfter | DeadLetter) -> None:
        if isinstance(outcome, RetryAfter):
            level, what = logging.INFO, f"retry in {outcome.delay:.1f} s"
        else:
            level, what = logging.WARNING, f"dead-lettered ({outcome.reason})"
        logger.log(
            level,
            "%s: message %s: attempt %d failed, %s: %s",
            self._handler,
            shown(delivery.message_id),
            delivery.attempt,
            what,
            describe(outcome.error),
        )

    def _log_copy_failure(self, delivery: Delivery, state: RetryCallState) -> None:
        logger.error(
            "%s: the copy of message %s is not published, and the original stays unacked: %s; "
            "trying again in %.1f s",
            self._handler,
            shown(delivery.message_id),
            state.outcome.exception() if state.outcome else None,
            state.upcoming_sleep,
        )
