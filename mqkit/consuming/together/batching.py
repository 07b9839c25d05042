"""Collects messages into batches, which are handled together; each is settled by itself.

A message waits for its batch to fill, or for the time of the first one in it to pass. It is decoded
before that, so that one that is no body of its handler is dead-lettered alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mqkit.clock import loop_clock
from mqkit.codec import SLOW_BODY, DeliveryDecoder
from mqkit.consuming.failures import FailureJudge
from mqkit.consuming.headers import expired
from mqkit.consuming.invoker import Invoker
from mqkit.consuming.threads.endings import aborted
from mqkit.errors import BatchResultError, DecodeError, HandlerAbortedError
from mqkit.hooks.tracing import RunBatch
from mqkit.message import Delivery
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, instruction
from mqkit.publishing.window import Window
from mqkit.registration.handler import Handler

Ended = Callable[["Place", Outcome | BaseException], None]
"""Is called with what became of a message, or with why that is not known."""


class Place:
    """The place of a message in a batch: it waits there without a task."""

    __slots__ = ("_ended", "batch", "body", "delivery", "is_over", "run")

    def __init__(self, delivery: Delivery, body: Any, ended: Ended) -> None:
        self.delivery = delivery
        self.body = body
        self.batch: _Batch | None = None
        self.run: _Run | None = None
        self.is_over = False
        self._ended = ended

    def end(self, outcome: Outcome | BaseException) -> None:
        """Tell what became of the message, once."""
        if self.is_over:
            return
        self.is_over = True
        self._ended(self, Lost() if self.delivery.lost else outcome)

    def cancel(self) -> None:
        """Leave the message to others: it is given back, or lost."""
        if self.is_over:
            return
        self.end(Requeue())
        if self.run is not None:
            self.run.left_by_one()

    def hurry(self) -> None:
        """Have the batch wait for no more than what is there: others wait for its end."""
        if self.batch is not None:
            self.batch.hurry()


class _Run:
    """A run of the handler, which is cancelled once nobody waits for it any more."""

    __slots__ = ("_task", "_waiting")

    def __init__(self, task: asyncio.Future[Any], places: Sequence[Place]) -> None:
        self._task = task
        self._waiting = len(places)
        for each in places:
            each.run = self

    def left_by_one(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._task.cancel()


class _Batch:
    """Messages that wait for others, until `due` is called, or for their turn to run."""

    __slots__ = ("_due", "_timer", "is_due", "places")

    def __init__(self, within: float, due: Callable[[], None]) -> None:
        self.places: list[Place] = []
        self.is_due = False
        """Whether it is to run as soon as it can."""
        self._due = due
        self._timer: asyncio.Handle = asyncio.get_running_loop().call_later(within, self._end_wait)

    def hurry(self) -> None:
        """Wait for no others, but for those that are there already."""
        if self.is_due:
            return
        self._timer.cancel()
        self.is_due = True
        # Not at once: those that come with this one are put into the batch right after it.
        self._timer = asyncio.get_running_loop().call_soon(self._due)

    def _end_wait(self) -> None:
        self.is_due = True
        self._due()

    def close(self) -> list[Place]:
        """Take out its messages; `due` is called no more."""
        self._timer.cancel()
        self.is_due = True
        places, self.places = self.places, []  # which refer to this: it would be a cycle
        return places


class Batcher:
    """Runs a handler for as many messages at once as have come together."""

    def __init__(
        self,
        handler: Handler,
        decoder: DeliveryDecoder,
        invoker: Invoker,
        judge: FailureJudge,
        run: RunBatch | None = None,
        *,
        times_runs: bool = False,
    ) -> None:
        """Collect nothing yet.

        :param run: runs the handler for a batch; None: the invoker does
        :param times_runs: whether each delivery is to say when it ran
        """
        self._times_runs = times_runs
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
        self._now = loop_clock()

    async def collect(self, delivery: Delivery, ended: Ended) -> Place | Outcome:
        """Put a message into a batch, and return its place; or its outcome, if it gets into none.

        :param ended: is called once the message's batch was handled, never before this returns
        """
        if delivery.expires is not None and (dead := expired(delivery, self._now())):
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
        place = Place(delivery, body, ended)
        self._add(place)
        return place

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Put a message into a batch, and wait for what becomes of it."""
        told: asyncio.Future[Outcome | BaseException] = asyncio.get_running_loop().create_future()

        def tell(_: Place, outcome: Outcome | BaseException) -> None:
            if not told.done():
                told.set_result(outcome)

        found = await self.collect(delivery, tell)
        if not isinstance(found, Place):
            return found
        try:
            outcome = await told
        except (asyncio.CancelledError, GeneratorExit):
            found.cancel()
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Handle what has come, and what still comes, without waiting for full batches."""
        self._stopping = True
        self._close()

    def _add(self, place: Place) -> None:
        batch = self._open
        if batch is None:
            batch = self._open = _Batch(self._within, self._due)
        place.batch = batch
        batch.places.append(place)
        if len(batch.places) >= self._size or self._stopping:
            self._close()

    def _due(self) -> None:
        """Run the open batch, as its time is over: at once, or with what comes until it can run."""
        if self._window.has_place:
            self._close()

    def _close(self) -> None:
        batch, self._open = self._open, None
        if batch is None:
            return
        task = asyncio.create_task(self._handle(batch.close()))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, places: list[Place]) -> None:
        try:
            await self._window.acquire()
            try:
                for together in _by_id(places) if self._needs_message_id else [places]:
                    left = [each for each in together if self._is_to_run(each)]
                    if left:
                        await self._run(left)
            finally:
                self._window.release()
                if self._open is not None and self._open.is_due:
                    self._due()
        except Exception as error:  # noqa: BLE001 - of this package: each message is settled by it
            for each in places:
                each.end(error)
        finally:
            for each in places:
                each.end(Requeue())

    def _is_to_run(self, place: Place) -> bool:
        """Tell whether a message is still to be handled after its wait."""
        delivery = place.delivery
        if place.is_over or delivery.lost:
            return False  # cancelled, or lost: it is somebody else's
        if delivery.expires is None or (dead := expired(delivery, self._now())) is None:
            return True
        place.end(dead)
        return False

    async def _run(self, places: list[Place]) -> None:
        began = self._now()
        deliveries = tuple(each.delivery for each in places)
        bodies = [each.body for each in places]
        run = asyncio.ensure_future(self._invoke(deliveries, bodies))
        _Run(run, places)
        await asyncio.wait([run])
        if self._times_runs:
            for each in deliveries:
                each.ran = (began, None)
            deliveries[0].ran = (began, self._now())
        for place, result in zip(places, self._results(run, len(places)), strict=True):
            if not place.is_over:
                place.end(self._judge(place.delivery, result, began))
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
                if result is not None:
                    self._invoker.check_result(result)
                return Ack(result, self._invoker.as_reply(delivery, result))
            except BaseException as problem:  # noqa: BLE001 - no result, or one that no reply holds
                error = problem
        if not isinstance(error, Exception) and instruction(error) is error:
            failure = aborted(error)
            failure.__cause__, error = error, failure
        return self._failures.judge(delivery, error, began)


def _by_id(places: list[Place]) -> list[list[Place]]:
    """Spread messages that have one id over runs that follow each other.

    The second of them is found handled, or is run where the first one failed.
    """
    if len({place.delivery.message_id for place in places}) == len(places):
        return [places]
    runs: list[list[Place]] = []
    before: Counter[str | None] = Counter()
    for place in places:
        number = before[place.delivery.message_id]
        before[place.delivery.message_id] += 1
        if number == len(runs):
            runs.append([])
        runs[number].append(place)
    return runs
