"""Publishes what takes the place of a delivery: a reply, or a copy of it, before it is acked.

A retry and a dead letter are copies: published and confirmed first, the original acked after.
If the copy is not confirmed, the original is not acked. Who asked for a reply gets it before the
ack, if it can be had in a short time; a message that is done is acked without it, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from mqkit.amqp.content_header import is_without_id
from mqkit.broker.delays import DelayLadder
from mqkit.clock import Clock, loop_clock, utc_now
from mqkit.consuming.copies import dead_letter_copy, fitted, forward_copy, retry_copy
from mqkit.consuming.headers import in_time, seconds_to_live
from mqkit.errors import (
    BrokerError,
    ExchangeNotFoundError,
    InvalidMessageError,
    PublishError,
    UnroutableError,
)
from mqkit.logging.delivery_log import DeliveryLog
from mqkit.logging.error_reports import TYPES
from mqkit.logging.shown import shown
from mqkit.message import Delivery, Message
from mqkit.outcome import Ack, DeadLetter, Forward, Outcome, RetryAfter, is_instruction
from mqkit.publishing.publisher import Publisher
from mqkit.publishing.replies import reply_to

logger = logging.getLogger(__name__)

REPLY_TIMEOUT = 5.0
"""Seconds that a reply may take to be confirmed; then its message is settled without it."""

COPY_WAIT_MAX = 10.0
"""Seconds; no wait between two attempts to publish a copy is longer."""

Copied = RetryAfter | DeadLetter | Forward

Then = Callable[[Delivery, Outcome], None]
"""Acks the delivery, unless it is settled already or lost with its channel."""


class Republisher:
    """Publishes for one consumer; `redeclare` puts its queues back on the broker."""

    def __init__(
        self,
        publisher: Publisher,
        ladder: DelayLadder,
        *,
        log: DeliveryLog,
        redeclare: Callable[[], Awaitable[None]],
        clock: Clock = utc_now,
    ) -> None:
        self._publisher = publisher
        self._ladder = ladder
        self.log = log
        self._handler = log.handler
        self._redeclare = redeclare
        self._clock = clock
        self._now = loop_clock()
        self._working: set[asyncio.Task[None]] = set()

    async def publish(self, delivery: Delivery, outcome: Ack | Copied, then: Then) -> None:
        """Publish the reply or the copy, and call `then`; goes on where the caller is cancelled."""
        work: Coroutine[Any, Any, None]
        if isinstance(outcome, Ack):
            work = self._answer(delivery, outcome, then)
        else:
            work = self._replace(delivery, outcome, then)
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        await asyncio.shield(task)

    async def _replace(self, delivery: Delivery, outcome: Copied, then: Then) -> None:
        if delivery.settled:
            return  # it was given back when the grace period was over, and its run failed after
        outcome = in_time(delivery, outcome, self._now())
        try:
            await self._publish_copy(delivery, outcome, then)
        except BrokerError as error:
            # Only now: what tenacity makes for each call waits for the garbage collector.
            await self._try_again(delivery, outcome, error, then)

    async def _try_again(
        self, delivery: Delivery, outcome: Copied, first: BrokerError, then: Then
    ) -> None:
        """Publish the copy until that succeeds; the first attempt failed with `first`."""
        failed = [first]

        async def attempt() -> None:
            if failed:
                raise failed.pop()
            await self._publish_copy(delivery, outcome, then)

        attempts = AsyncRetrying(
            stop=lambda _: delivery.settled or delivery.lost,
            wait=wait_random_exponential(multiplier=0.2, max=COPY_WAIT_MAX),
            retry=retry_if_exception_type(BrokerError),
            before_sleep=lambda state: self._log_copy_failure(delivery, state),
            retry_error_callback=lambda _: then(delivery, outcome),  # it is not to be acked
        )
        await attempts(attempt)

    async def _publish_copy(self, delivery: Delivery, outcome: Copied, then: Then) -> None:
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
        then(delivery, outcome)
        if not isinstance(outcome, Forward):
            self._log_copy(delivery, outcome)

    async def _copy(self, delivery: Delivery, outcome: Copied) -> Message:
        now = self._clock()
        if is_without_id(delivery.properties):
            named = replace(delivery.properties, message_id=self._publisher.new_id())
            delivery.properties = named
        match outcome:
            case DeadLetter():
                return dead_letter_copy(
                    delivery,
                    outcome,
                    self.log.service,
                    self._handler,
                    now,
                    masker=self.log.reports.masker,
                    package=self.log.package,
                )
            case Forward(queue):
                way = await self._ladder.route(0.0, queue)
                return forward_copy(
                    delivery, *way, time_to_live=seconds_to_live(delivery, self._now())
                )
            case RetryAfter(delay):
                way = await self._ladder.route(delay, delivery.queue)
                to_live = seconds_to_live(delivery, self._now(), delay)
                return retry_copy(delivery, outcome, *way, now, time_to_live=to_live)

    async def _answer(self, delivery: Delivery, outcome: Ack, then: Then) -> None:
        await self._reply(delivery, outcome)
        then(delivery, outcome)

    async def _reply(self, delivery: Delivery, outcome: Ack | DeadLetter) -> None:
        """Publish the reply that is asked for. The message is done, whether it arrives or not."""
        if delivery.settled or delivery.lost:
            return
        try:
            reply = reply_to(delivery, outcome, self._publisher.new_id)
            if reply is not None:
                if delivery.trace is not None:
                    delivery.trace.carry(reply.properties.headers)
                await self._publisher.send(reply, timeout=REPLY_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - what is done stays done, whatever the reply is
            # Not the error's text, which has the address: whoever knows it can answer there.
            logger.info(
                "%s: message %s is done, but its reply did not reach who asked: %s",
                self._handler,
                shown(delivery.message_id),
                shown(error.problem) if isinstance(error, PublishError) else TYPES.of(error),
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
        error, keeps_text = outcome.error, is_instruction(outcome.error)
        if isinstance(outcome, RetryAfter):
            self.log.retried(
                delivery, error, outcome.delay, counted=outcome.counted, keeps_text=keeps_text
            )
        else:
            self.log.dead_lettered(delivery, error, outcome.reason.value, keeps_text=keeps_text)

    def _log_copy_failure(self, delivery: Delivery, state: RetryCallState) -> None:
        logger.error(
            "%s: the copy of message %s is not published, and the original stays unacked: %s; "
            "trying again in %.1f s",
            self._handler,
            shown(delivery.message_id),
            state.outcome.exception() if state.outcome else None,
            state.upcoming_sleep,
        )
