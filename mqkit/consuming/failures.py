"""Judges failed runs, and ends deliveries whose outcome could not be carried out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import replace

from mqkit.clock import loop_clock
from mqkit.consuming.headers import RunTooLateError, elapsed_seconds
from mqkit.consuming.settler import Settler
from mqkit.errors import (
    InvalidMessageError,
    MessageIdError,
    MessageIdReusedError,
    StoreError,
    UncountedError,
)
from mqkit.logging.error_reports import REPORTS, ErrorReports
from mqkit.logging.shown import shown
from mqkit.message import Delivery
from mqkit.outcome import DeadLetter, DeathReason, Outcome, RetryAfter
from mqkit.registration.handler import Handler

logger = logging.getLogger(__name__)

STORE_WAIT_MIN = 0.5
STORE_WAIT_MAX = 5.0
"""Seconds until a message that met an unavailable store is tried again, drawn between these."""

LAST_RESORT_WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds after each attempt to dead-letter a message that could not be settled otherwise."""


class FailureJudge:
    """Judges the failed runs of one handler, by its retry policy."""

    def __init__(
        self, handler: Handler, *, has_transaction: bool, reports: ErrorReports = REPORTS
    ) -> None:
        """Judge nothing yet.

        :param has_transaction: whether the handler runs in a transaction of a store, whose errors
            are judged before the policy is asked
        """
        self._handler = handler
        self._has_transaction = has_transaction
        self._reports = reports
        self._now = loop_clock()

    def judge(self, delivery: Delivery, error: BaseException, began: float) -> Outcome:
        """Decide what becomes of the message.

        :param began: when the run did, on the monotonic clock
        """
        if isinstance(error, RunTooLateError):
            return DeadLetter(DeathReason.EXPIRED, error)
        elapsed = elapsed_seconds(delivery.headers)
        if self._has_transaction and isinstance(error, StoreError):
            of_store = _of_store(error, elapsed)
            if of_store is not None:
                return of_store
        if delivery.attempt > 1:
            elapsed += self._now() - began
        try:
            outcome = self._handler.retry.decide(error, attempt=delivery.attempt, elapsed=elapsed)
        except BaseException as policy_error:  # noqa: BLE001 - whatever a strategy raises
            self._reports.log(
                logger,
                logging.ERROR,
                "%s: the retry policy failed; message %s is dead-lettered",
                self._handler.name,
                shown(delivery.message_id),
                error=policy_error,
            )
            if policy_error is not error:  # a strategy may raise the error that it was asked about
                policy_error.__context__ = error
            return DeadLetter(DeathReason.POLICY_FAILED, policy_error)
        if isinstance(outcome, RetryAfter):
            return replace(outcome, elapsed=elapsed + outcome.delay)
        return outcome

    def unidentified(self) -> DeadLetter:
        """Return the outcome of a message without an id, whose handler needs one."""
        error = InvalidMessageError(
            f"the message has no message_id, by which handler {self._handler.name} and its store "
            "would know it again; its publisher must give it one"
        )
        return DeadLetter(DeathReason.UNIDENTIFIED, error)


def _of_store(error: StoreError, elapsed: float) -> Outcome | None:
    """Return what a store's error makes of a message; None leaves it to the policy."""
    match error:
        case UncountedError():
            # The store of its transaction is away, say: that costs the message no attempt.
            drawn = random.uniform(STORE_WAIT_MIN, STORE_WAIT_MAX)
            wait = drawn if error.wait is None else error.wait
            return RetryAfter(wait, error, elapsed=elapsed, counted=False)
        case MessageIdReusedError():
            return DeadLetter(DeathReason.ID_REUSED, error)
        case MessageIdError():
            return DeadLetter(DeathReason.UNIDENTIFIED, error)
        case _:
            return None


async def end_cancelling() -> None:
    """Forget that the running task is cancelled, be it by the service or by the handler itself.

    A handler may have cancelled its own task and ended in another way; its delivery must be settled
    all the same, without meeting that at the next await.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    while task.uncancel():
        pass


class LastResort:
    """Ends deliveries whose outcome could not be decided on, or not be carried out."""

    def __init__(
        self, handler: Handler, settler: Settler, *, reports: ErrorReports = REPORTS
    ) -> None:
        self._handler = handler
        self._reports = reports
        self._settler = settler

    async def settle(self, delivery: Delivery, error: BaseException) -> None:
        """Dead-letter the message, or leave that to the broker after several attempts.

        It is never given back at once: from RabbitMQ 4.3 on nothing would count how often it comes,
        and it would come for ever.

        :param error: why it could not be settled
        """
        outcome = DeadLetter(DeathReason.UNSETTLED, error)
        for wait in LAST_RESORT_WAITS:
            self._reports.log(
                logger,
                logging.CRITICAL,
                "%s: message %s could not be settled; it is dead-lettered",
                self._handler.name,
                shown(delivery.message_id),
                error=error,
            )
            try:
                await self._settler.settle(delivery, outcome)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as failure:  # noqa: BLE001 - tried again, or left to the broker
                error = failure
            if delivery.settled or delivery.lost:
                return
            await asyncio.sleep(wait)
        # What the broker does with a refused message is known of mqkit's own declarations alone.
        queue = self._handler.queue
        is_kept = queue.declare and "x-dead-letter-exchange" in queue.declared_arguments()
        self._settler.refuse(delivery, error, requeue=not is_kept)
