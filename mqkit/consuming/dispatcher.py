"""From a delivery to its outcome: decode, call the handler, ask the policy. Nothing is settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from mqkit.codec import SLOW_BODY, check_received
from mqkit.consuming.expiry import expired
from mqkit.consuming.invoker import Invoker
from mqkit.errors import (
    DecodeError,
    InvalidMessageError,
    MessageIdError,
    MessageIdReusedError,
    StoreError,
    StoreUnavailableError,
)
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.logging.error_texts import log_error
from mqkit.logging.shown import shown
from mqkit.message import Delivery, elapsed_seconds
from mqkit.middleware import Middleware
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.registration.handler import Handler
from mqkit.registration.injection import Provider
from mqkit.registration.transactions import TransactionalStore

logger = logging.getLogger(__name__)

STORE_WAIT_MIN = 0.5
STORE_WAIT_MAX = 5.0
"""Seconds until a message that met an unavailable store is tried again, drawn between these."""


class Dispatcher:
    """Runs one handler for one delivery at a time, and decides what becomes of the delivery.

    What is over the `limits` is dead-lettered undecoded. The other arguments are `Invoker`'s.
    """

    def __init__(
        self,
        service: str,
        handler: Handler,
        *,
        middleware: tuple[Middleware, ...],
        values: Mapping[Any, Any],
        providers: Mapping[Any, Provider],
        executor: Executor | None,
        store: TransactionalStore | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self.invoker = Invoker(
            service,
            handler,
            middleware=middleware,
            values=values,
            providers=providers,
            executor=executor,
            store=store,
            limits=limits,
        )
        self._needs_message_id = self.invoker.needs_message_id

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """The outcome of one run; raises nothing that anybody's code raised."""
        if delivery.expires is not None and (dead := expired(delivery, time.monotonic())):
            return dead
        try:
            is_large = len(delivery.body) >= SLOW_BODY
            body = await self.decode_aside(delivery) if is_large else self.decode(delivery)
        except DecodeError as error:
            return DeadLetter(DeathReason.UNDECODABLE, error)
        if self._needs_message_id and not delivery.message_id:
            return DeadLetter(DeathReason.UNIDENTIFIED, _unidentified(self._handler.name))
        began = time.monotonic()
        try:
            result, reply = await self.invoker.invoke(delivery, body)
        except GeneratorExit:  # Python throws the coroutine away
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            await _end_cancelling()
            if delivery.settled:  # given back, and its run was cancelled for that
                return _unless_lost(delivery, Requeue())
            # No variable holds the outcome: it has the error, whose traceback has this frame, and
            # each failed message would stay in memory until the garbage collector finds it.
            return _unless_lost(delivery, self.decide(delivery, error, began))
        return _unless_lost(delivery, Ack(result, reply))

    def decode(self, delivery: Delivery) -> Any:
        """The validated body.

        :raises DecodeError: it is over the limits, or not what the handler takes
        """
        check_received(delivery.body, delivery.properties, self._limits)
        decoder = self._handler.plan.decoder
        if decoder is None:
            return None
        return decoder.decode(delivery.body, delivery.properties, self._limits)

    async def decode_aside(self, delivery: Delivery) -> Any:
        """As `decode`, in a thread: the loop goes on wherever a validator in Python runs.

        pydantic itself lets no other thread run while it parses and validates, which takes some
        tenths of a second for the largest body that there may be by default.
        """
        decoder = self._handler.plan.decoder
        if decoder is None or not decoder.is_slow(delivery.body):
            return self.decode(delivery)
        return await asyncio.to_thread(self.decode, delivery)

    def decide(self, delivery: Delivery, error: BaseException, began: float) -> Outcome:
        """What the policy makes of a failure.

        :param began: when the run did, on the monotonic clock
        """
        elapsed = elapsed_seconds(delivery.headers)
        if self._needs_message_id and isinstance(error, StoreError):
            of_store = _of_store(error, elapsed)
            if of_store is not None:
                return of_store
        if delivery.attempt > 1:
            elapsed += time.monotonic() - began
        try:
            outcome = self._handler.retry.decide(error, attempt=delivery.attempt, elapsed=elapsed)
        except BaseException as policy_error:  # noqa: BLE001 - whatever a strategy raises
            log_error(
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


async def _end_cancelling() -> None:
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


def _unless_lost(delivery: Delivery, outcome: Outcome) -> Outcome:
    return Lost() if delivery.lost else outcome


def _of_store(error: StoreError, elapsed: float) -> Outcome | None:
    """What becomes of a message by its store's word; None: what the policy makes of it."""
    match error:
        case StoreUnavailableError():
            # The store of its transaction is away: that costs the message no attempt.
            drawn = random.uniform(STORE_WAIT_MIN, STORE_WAIT_MAX)
            wait = drawn if error.wait is None else error.wait
            return RetryAfter(wait, error, elapsed=elapsed, counted=False)
        case MessageIdReusedError():
            return DeadLetter(DeathReason.ID_REUSED, error)
        case MessageIdError():
            return DeadLetter(DeathReason.UNIDENTIFIED, error)
        case _:
            return None


def _unidentified(handler: str) -> InvalidMessageError:
    return InvalidMessageError(
        f"the message has no message_id, by which handler {handler} and its store would know it "
        "again; its publisher must give it one"
    )
