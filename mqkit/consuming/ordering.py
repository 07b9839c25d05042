"""Keeps messages in order: their keys, their partitions, and retries that hold their place.

The key of a message is what `order_by` says of its body. Messages of one key take their turns in
the order of their queue; a message that failed is held, and tried again before the next of its key.
"""

from __future__ import annotations

import asyncio
import inspect
import zlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from mqkit.clock import Clock, monotonic, stamp, utc_now
from mqkit.consuming.headers import in_time
from mqkit.errors import DecodeError, OrderError
from mqkit.logging.delivery_log import DeliveryLog
from mqkit.message import Delivery, Header
from mqkit.middleware import Observers
from mqkit.outcome import (
    DeadLetter,
    DeathReason,
    Forward,
    Lost,
    Outcome,
    Requeue,
    RetryAfter,
    is_instruction,
)
from mqkit.registration.handler import Handler
from mqkit.registration.keys import canonical
from mqkit.topology import consumer_timeout

HELD = 0.8
"""The share of the broker's consumer timeout that a message is held at most, waits and runs."""

LOOK = 0.25
"""Seconds between two looks, while a message is held, at whether it is lost meanwhile."""


class OrderKeys:
    """Computes the order keys of one handler's messages."""

    def __init__(self, handler: Handler, decode: Callable[[Delivery], Any]) -> None:
        self._decode = decode
        self._handler = handler.name
        order_by = handler.order_by
        assert order_by is not None, "an ordered handler has one"
        self._order_by: Callable[[Any], Hashable] = order_by
        self._without: WeakSet[Delivery] = WeakSet()
        """Deliveries for which it failed as they came in."""

    def of(self, delivery: Delivery) -> str | None:
        """Return the key as `keys.canonical` writes it; None is a message that keeps no order.

        :raises DecodeError: the body cannot be decoded
        :raises OrderError: `order_by` failed, or what it returned is no key
        """
        body = self._decode(delivery)
        try:
            key = self._order_by(body)
            if inspect.iscoroutine(key):
                key.close()  # nobody awaits it
            return canonical(key)
        except BaseException as error:
            why = f": {error}" if isinstance(error, OrderError) else ""
            raise OrderError(
                f"handler {self._handler}: order_by failed for a body of type "
                f"{type(body).__name__}: {type(error).__name__}{why}"
            ) from error

    def or_none(self, delivery: Delivery) -> str | None:
        """Return the key, or None where that fails; the run of the message fails then as well.

        It is called where a message comes in, from a driver's callback, and raises nothing.
        """
        try:
            return self.of(delivery)
        except OrderError:
            self._without.add(delivery)
            return None
        except BaseException:  # noqa: BLE001 - whatever a validator of the application's raised
            return None

    def error_of(self, delivery: Delivery) -> OrderError | None:
        """Return why a message had no key when it came in; None where it had one."""
        if delivery not in self._without:
            return None
        try:
            # Again, as an error that is kept would keep its delivery, whether that is run or not.
            self.of(delivery)
        except OrderError as error:
            return error
        return OrderError(f"handler {self._handler}: order_by failed as the message came in")


def partition_of(key: Any, partitions: int) -> int:
    """Return the partition of a key: the same in every process, of every version of Python.

    :raises OrderError: it is none
    """
    return zlib.crc32(str(canonical(key)).encode("utf-8", "surrogatepass")) % partitions


class PartitionRouter:
    """Sends each message of a partitioned queue to the partition of its key."""

    def __init__(self, handler: Handler, keys: OrderKeys) -> None:
        self._queue = handler.queue
        self._keys = keys

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Return the partition to forward to; a message without a key can be in any."""
        try:
            key = self._keys.of(delivery)
        except DecodeError as error:
            return DeadLetter(DeathReason.UNDECODABLE, error)
        except OrderError as error:
            return DeadLetter(DeathReason.UNORDERED, error)
        spread = delivery.message_id if key is None else key
        return Forward(self._queue.partition(partition_of(spread, self._queue.partitions or 1)))


class HeldRetries:
    """Runs a message to its end, its retries included, while the next of its key waits.

    The waits of a policy are spent here and not on the broker, which would let others pass. What
    would be held for so long that the broker takes it back is dead-lettered.
    """

    def __init__(
        self,
        handler: Handler,
        dispatch: Callable[[Delivery], Awaitable[Outcome]],
        keys: OrderKeys,
        log: DeliveryLog,
        clock: Clock = utc_now,
        *,
        observer: Observers | None = None,
    ) -> None:
        """Hold nothing yet.

        :param observer: is told of what is held
        """
        self._observer = observer
        self._log = log
        self._clock = clock
        self._name = handler.name
        self._dispatch = dispatch
        self._keys = keys
        self._longest = HELD * consumer_timeout(handler.queue)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Give back what waits for its next attempt, and hold nothing any more."""
        self._stopping.set()

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Run a message until it is done or dead, or the service stops."""
        began = asyncio.get_running_loop().time()
        if (dead := self.without_key(delivery)) is not None:
            return dead
        return await self.until_over(delivery, await self._dispatch(delivery), began)

    def without_key(self, delivery: Delivery) -> DeadLetter | None:
        """Return the end of a message of which no key could be computed; None of one with a key."""
        error = self._keys.error_of(delivery)
        return None if error is None else DeadLetter(DeathReason.UNORDERED, error)

    async def until_over(self, delivery: Delivery, outcome: Outcome, began: float) -> Outcome:
        """Hold a message whose run came to this, and run it again until it is done or dead.

        :param began: when it came to its first run, by the loop's clock
        """
        while isinstance(outcome, RetryAfter):
            late = in_time(delivery, outcome, monotonic())
            if not isinstance(late, RetryAfter):
                return late
            held = asyncio.get_running_loop().time() - began
            if held + outcome.delay > self._longest:
                return self._held_too_long(outcome, held)
            self._log.retried(
                delivery,
                outcome.error,
                outcome.delay,
                counted=outcome.counted,
                held=True,
                keeps_text=is_instruction(outcome.error),
            )
            if self._observer is not None:
                self._observer.held(self._name, delivery, outcome)
            if (given_up := await self._wait(delivery, outcome.delay)) is not None:
                return given_up
            self._begin_next_attempt(delivery, outcome)
            outcome = await self._dispatch(delivery)
        return outcome

    async def _wait(self, delivery: Delivery, seconds: float) -> Outcome | None:
        """Hold the message so long; an outcome is what ended that early."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not delivery.lost:
            if self._stopping.is_set():
                return Requeue()
            left = end - loop.time()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(min(left, LOOK)):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        return Lost()

    def _held_too_long(self, outcome: RetryAfter, held: float) -> DeadLetter:
        error = OrderError(
            f"handler {self._name}: the message was held for {held:.1f} s, and its next attempt "
            f"is due in {outcome.delay:g} s; the broker would take it back before that"
        )
        error.__cause__ = outcome.error
        return DeadLetter(DeathReason.HELD_TOO_LONG, error)

    def _begin_next_attempt(self, delivery: Delivery, outcome: RetryAfter) -> None:
        """Note on the delivery what a copy would say in its headers."""
        headers = {
            Header.FIRST_FAILURE: stamp(self._clock()),
            **delivery.headers,
            Header.ELAPSED: round(outcome.elapsed * 1000),
        }
        delivery.properties = replace(delivery.properties, headers=headers)
        delivery.attempt += 1 if outcome.counted else 0
