"""Collects messages into batches, which are handled together; each is settled by itself.

A message waits for its batch to fill, or for the time of the first one in it to pass. It is decoded
before that, so that one that is no body of its handler is dead-lettered alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mqkit.codec import SLOW_BODY, DeliveryDecoder
from mqkit.consuming.failures import FailureJudge
from mqkit.consuming.headers import expired
from mqkit.consuming.invoker import Invoker
from mqkit.consuming.threads.endings import aborted
from mqkit.errors import BatchResultError, DecodeError, HandlerAbortedError
from mqkit.message import Delivery
from mqkit.middleware import RunBatch
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, instruction
from mqkit.publishing.window import Window
from mqkit.registration.handler import Handler


@dataclass(eq=False, slots=True)
class _Item:
    """One message of a batch."""

    delivery: Delivery
    body: Any
    outcome: asyncio.Future[Outcome]


@dataclass(eq=False, slots=True)
class _Batch:
    items: list[_Item] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Batcher:
    """Runs a handler for as many messages at once as have come together."""

    def __init__(
        self,
        handler: Handler,
        decoder: DeliveryDecoder,
        invoker: Invoker,
        judge: FailureJudge,
        run: RunBatch | None = None,
    ) -> None:
        """Collect nothing yet.

        :param run: runs the handler for a batch; None: the invoker does
        """
        assert handler.batch is not None, "it handles batches"
        self._size, self._within = handler.batch
        self._handler = handler
        self._decoder = decoder
        self._invoker = invoker
        self._invoke = run or invoker.invoke_batch
        self._failures = judge
        self._needs_message_id = invoker.needs_message_id
        self._window = Window(handler.concurrency)
        self._open: _Batch | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Return the outcome of a message, once its batch was handled."""
        if delivery.expires is not None and (dead := expired(delivery, time.monotonic())):
            return dead
        try:
            if len(delivery.body) >= SLOW_BODY:
                body = await self._decoder.decode_aside(delivery)
            else:
                body = self._decoder.decode(delivery)
        except DecodeError as error:
            return DeadLetter(DeathReason.UNDECODABLE, error)
        if self._needs_message_id and not delivery.message_id:
            return self._failures.unidentified()
        item = _Item(delivery, body, asyncio.get_running_loop().create_future())
        self._add(item)
        try:
            outcome = await item.outcome
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise
            task.uncancel()
            outcome = Requeue()
        return Lost() if delivery.lost else outcome

    def stop(self) -> None:
        """Handle what has come, and what still comes, without waiting for full batches."""
        self._stopping = True
        self._close()

    def _add(self, item: _Item) -> None:
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
            loop = asyncio.get_running_loop()
            batch.timer = loop.call_later(self._within, self._close)
        batch.items.append(item)
        if len(batch.items) >= self._size or self._stopping:
            self._close()

    def _close(self) -> None:
        batch, self._open = self._open, None
        if batch is None:
            return
        if batch.timer is not None:
            batch.timer.cancel()
        task = asyncio.create_task(self._handle(batch.items))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, items: list[_Item]) -> None:
        await self._window.acquire()
        try:
            for together in _by_id(items) if self._needs_message_id else [items]:
                # Those that were lost, or cancelled, while they waited are somebody else's.
                left = [i for i in together if not (i.outcome.done() or i.delivery.lost)]
                if left:
                    await self._run(left)
        except Exception as error:  # noqa: BLE001 - raised for each message, where it is settled
            for item in items:
                if not item.outcome.done():
                    item.outcome.set_exception(error)
        finally:
            self._window.release()
            for item in items:
                if not item.outcome.done():
                    item.outcome.set_result(Requeue())

    async def _run(self, items: list[_Item]) -> None:
        began = time.monotonic()
        deliveries = tuple(item.delivery for item in items)
        run = asyncio.ensure_future(self._invoke(deliveries, [item.body for item in items]))
        # A run that nobody waits for any more is cancelled; one that some wait for goes on.
        waiting = asyncio.ensure_future(asyncio.wait([item.outcome for item in items]))
        await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not run.done():
            run.cancel()
            await asyncio.wait([run])
        results = self._results(run, len(items))
        for item, result in zip(items, results, strict=True):
            if not item.outcome.done():
                item.outcome.set_result(self._judge(item.delivery, result, began))
        if not self._handler.is_async:
            await self._invoker.wait_for_thread(deliveries[0])

    def _results(self, run: asyncio.Future[Any], count: int) -> list[Any]:
        """Return the result of each message; an exception is its failure."""
        if run.cancelled():  # by itself: else there is nobody left to tell
            return [HandlerAbortedError(f"handler {self._handler.name} cancelled its task")] * count
        if (error := run.exception()) is not None:
            return [error] * count
        try:
            return self._invoker.results_of_batch(run.result(), count)
        except BatchResultError as wrong:
            return [wrong] * count

    def _judge(self, delivery: Delivery, result: Any, began: float) -> Outcome:
        error = result
        if not isinstance(result, BaseException):
            try:
                self._invoker.check_result(result)
                return Ack(result, self._invoker.as_reply(delivery, result))
            except BaseException as problem:  # noqa: BLE001 - no result, or one that no reply holds
                error = problem
        if not isinstance(error, Exception) and instruction(error) is error:
            failure = aborted(error)
            failure.__cause__, error = error, failure
        return self._failures.judge(delivery, error, began)


def _by_id(items: list[_Item]) -> list[list[_Item]]:
    """Spread messages that have one id over runs that follow each other.

    The second of them is found handled, or is run where the first one failed.
    """
    runs: list[list[_Item]] = []
    before: Counter[str | None] = Counter()
    for item in items:
        number = before[item.delivery.message_id]
        before[item.delivery.message_id] += 1
        if number == len(runs):
            runs.append([])
        runs[number].append(item)
    return runs
