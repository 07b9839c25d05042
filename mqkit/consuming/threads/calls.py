"""Calls `def` handlers in threads, and some within a transaction that begins and ends there.

What is made for the message is made on the event loop before, and closed there after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from mqkit.clock import loop_clock
from mqkit.consuming.headers import those_too_late, too_late
from mqkit.hooks.tracing import MessageTracing
from mqkit.logging.shown import shown
from mqkit.message import Delivery
from mqkit.middleware import HandlerCall
from mqkit.registration.handler import Handler
from mqkit.registration.injection import DELIVERIES
from mqkit.registration.transactions import ThreadRun, ThreadStore
from mqkit.topology import Exchange

logger = logging.getLogger(__name__)

Arguments = dict[str, Any]


class Results(Protocol):
    """Checks what a handler returned: the `Invoker`."""

    def check_result(self, result: Any) -> None:
        """Refuse a result that has yet to run."""
        ...

    def as_reply(self, delivery: Delivery, result: Any) -> Any:
        """Encode the result, where the message asks for a reply."""
        ...

    def results_of_batch(self, returned: Any, count: int) -> list[Any]:
        """Return a result for each message of a batch."""
        ...

    def checked(self, delivery: Delivery, result: Any) -> Any:
        """Return the result of one of a batch, or the failure that it is."""
        ...


class InThread:
    """A run that a thread carries out; stands among what is made for a message, by its type."""

    def __init__(
        self, run: ThreadRun, call: Callable[[Arguments, Sequence[Delivery]], Any]
    ) -> None:
        """Carry out nothing yet.

        :param call: calls the handler in the thread, and checks what it returned
        """
        self._run = run
        self._call = call
        self._limit: Callable[[float | None], None] | None = None
        self._timeout: float | None = None

    def limit(self, deadline: asyncio.Timeout, timeout: float) -> None:
        """Let the timeout hold for the handler, and not for what the database does around it."""
        loop = asyncio.get_running_loop()

        def reschedule(until: float | None) -> None:
            with contextlib.suppress(RuntimeError):  # it is over
                deadline.reschedule(until)

        def tell(seconds: float | None) -> None:
            until = None if seconds is None else loop.time() + seconds
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(reschedule, until)

        self._limit, self._timeout = tell, timeout

    def carry_out(self, arguments: Arguments) -> Any:
        """Run the handler in this thread, from the begin of its transaction to the commit."""
        self._tell(None)
        return self._run.carry_out(functools.partial(self._within, arguments))

    def _within(self, arguments: Arguments, deliveries: Sequence[Delivery]) -> Any:
        self._tell(self._timeout)
        try:
            return self._call(arguments, deliveries)
        finally:
            self._tell(None)

    def _tell(self, seconds: float | None) -> None:
        if self._limit is not None:
            self._limit(seconds)

    async def wait(self, thread: Future[Any]) -> Any:
        """Return what a thread returns; where this is cancelled, the run is given up.

        A commit that has begun is waited for, and the run is none that was cancelled.
        """
        try:
            return await asyncio.wrap_future(thread)
        except asyncio.CancelledError:
            if self._run.give_up():
                raise
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            thread.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
            while not ended.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await ended.wait()
            return thread.result()
        finally:
            del thread  # it holds the error, whose traceback holds this frame


class HandlerThreads:
    """Runs calls of a handler in threads, and knows which of them go on."""

    def __init__(self, handler: str, executor: Executor | None) -> None:
        self._handler = handler
        self._executor = executor
        self._threads: dict[Delivery, Future[Any]] = {}

    async def run(
        self, delivery: Delivery, call: Callable[[], Any], in_thread: InThread | None = None
    ) -> Any:
        """Return what a call returns that a thread makes for a delivery."""
        assert self._executor is not None
        thread = self._executor.submit(call)
        self._threads[delivery] = thread
        try:
            if in_thread is not None:
                return await in_thread.wait(thread)
            return await asyncio.wrap_future(thread)
        finally:
            if thread.done():
                del self._threads[delivery]
            del thread  # it holds the error, whose traceback holds this frame

    async def wait(self, delivery: Delivery) -> None:
        """Wait until no thread runs for the delivery any more.

        One goes on after its run was cancelled or timed out. Until it ends it is as if the handler
        still ran: a message that comes again would be handled twice at the same time, and another
        one would find no thread.
        """
        thread = self._threads.pop(delivery, None)
        if thread is not None and not thread.done():
            logger.warning(
                "%s: message %s: its thread goes on; no other run takes its place before it ends",
                self._handler,
                shown(delivery.message_id),
            )
            await asyncio.wait([asyncio.wrap_future(thread)])


class ThreadCalls:
    """Calls one `def` handler that takes a transaction, for a message or for a batch of them."""

    def __init__(
        self,
        handler: Handler,
        store: ThreadStore,
        results: Results,
        run: Callable[[HandlerCall, dict[Any, Any]], Awaitable[Any]],
        *,
        check_exchange: Callable[[Exchange], None] | None,
        tracing: MessageTracing | None,
    ) -> None:
        """Call nothing yet.

        :param run: makes the handler's other arguments, and has a thread carry out the run
        """
        self._handler = handler
        self._store = store
        self._results = results
        self._run = run
        self._check_exchange = check_exchange
        self._tracing = tracing
        self._now = loop_clock()
        plan = handler.plan
        self._taking_all = [name for name, kind in plan.injected.items() if kind == DELIVERIES]

    async def call(self, call: HandlerCall) -> Any:
        """Call the handler for a message, or return what it returned when it was handled."""
        return await self._store.run_once_in_thread(
            self._handler.name, call.delivery, functools.partial(self._in_thread, call, self._one)
        )

    async def call_batch(self, call: HandlerCall) -> Any:
        """Call the handler for those of a batch that it has not handled."""
        return await self._store.run_batch_once_in_thread(
            self._handler.name,
            call.deliveries,
            functools.partial(self._in_thread, call, self._many),
        )

    async def _in_thread(
        self, call: HandlerCall, how: Callable[..., Any], transaction: Any, run: ThreadRun
    ) -> Any:
        if self._check_exchange is not None:
            transaction.check_exchange = self._check_exchange
        if self._tracing is not None:
            transaction.tracing = self._tracing
        in_thread = InThread(run, functools.partial(how, call))
        return await self._run(call, {type(transaction): transaction, InThread: in_thread})

    def _one(self, call: HandlerCall, arguments: Arguments, _: Sequence[Delivery]) -> Any:
        if (late := too_late(call.delivery, self._now())) is not None:
            raise late  # it waited for a thread and the transaction
        result = self._handler.function(**arguments)
        if result is not None:
            self._results.check_result(result)
        # One that cannot be sent must fail before the commit.
        self._results.as_reply(call.delivery, result)
        return result

    def _many(
        self, call: HandlerCall, arguments: Arguments, deliveries: Sequence[Delivery]
    ) -> list[Any]:
        if not (late := those_too_late(deliveries, self._now())):
            return self._timely(call, arguments, deliveries)
        timely = [each for each in deliveries if each not in late]
        ran = self._timely(call, arguments, timely) if timely else []
        results = dict(zip(timely, ran, strict=True)) | late
        return [results[each] for each in deliveries]

    def _timely(
        self, call: HandlerCall, arguments: Arguments, deliveries: Sequence[Delivery]
    ) -> list[Any]:
        bodies = dict(zip(call.deliveries, call.body, strict=True))
        some: Arguments = {name: list(deliveries) for name in self._taking_all}
        some[self._handler.plan.body or ""] = [bodies[each] for each in deliveries]
        returned = self._handler.function(**arguments | some)
        results = self._results.results_of_batch(returned, len(deliveries))
        return [self._results.checked(*each) for each in zip(deliveries, results, strict=True)]
